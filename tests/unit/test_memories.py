"""The figures that the picture of the two memories is drawn from."""

import logging

import msgspec
import pytest
from served import Served

from twofold.server.memories import PATH, Memories
from twofold.server.process import log_requests
from twofold.server.readiness import Readiness


def test_each_figure_is_told_of_the_memory_it_belongs_to(served: Served) -> None:
    told = served.get(PATH).json()
    assert (told["model"], told["seconds"] > 0) == ("tiny", True)
    assert told["context"] == {
        "running": 1, "waiting": 2, "swapped": 3, "pages": 8, "pages_used": 4, "pages_cached": 5, "prompt_tokens": 60,
        "cached_tokens": 7, "generated_tokens": 80, "worked_ns": 18_000, "layers_ns": [9_000, 9_000],
    }  # fmt: skip
    assert told["weights"] == {
        "processors": [{"link": "shm", "state": "up", "draining": False, "segments": "0-2"}],
        "steps": 9, "rows": 10, "calls": 15, "failovers": 16, "worked_ns": 17_000, "link_ns": 19_000,
        "segments_ns": [5_000, 5_000, 5_000],
    }  # fmt: skip


def test_its_form_is_in_the_document(served: Served) -> None:
    document = served.get("/openapi.json").json()
    reply = document["paths"][PATH]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert reply["$ref"] == "#/components/schemas/Memories"
    fields = document["components"]["schemas"]["Memories"]["properties"]
    assert set(fields) == {field.name for field in msgspec.structs.fields(Memories)}


def test_while_the_model_loads_it_says_how_far_that_is(served: Served) -> None:
    served.readiness.__dict__.update(Readiness().__dict__)
    served.readiness.progress("load", 1, 2)
    refused = served.get(PATH)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert "loading the weights, 50 %" in refused.json()["error"]["message"]


def test_a_look_a_second_does_not_fill_the_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "twofold-test")
    log = log_requests(logging.getLogger("twofold-test"))
    served.get(PATH)
    served.get("/v1/models")
    served.get(PATH, headers={"host": "elsewhere.example"})
    for record in served.records:
        log(record)
    noted = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert [(fields["route"], fields["status"]) for fields in noted] == [("/v1/models", 200), ("unknown", 421)]
