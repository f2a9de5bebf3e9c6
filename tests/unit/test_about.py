"""What a server says of itself."""

from served import Served

from twofold import __version__


def test_a_model_is_listed_under_each_of_its_names(served: Served) -> None:
    listed = served.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["tiny", "small"]
    assert listed["data"][0]["max_model_len"] == served.serving.manifest.context_length
    assert served.get("/v1/models/small").json() == listed["data"][1]
    assert served.get("/v1/models/large").json()["error"]["code"] == "model_not_found"


def test_the_version_is_told(served: Served) -> None:
    assert served.get("/version").json()["version"] == __version__


def test_a_live_server_says_so_with_nothing_else(served: Served) -> None:
    alive = served.get("/health")
    assert (alive.status_code, alive.content) == (200, b"")
