"""One weight processor at several addresses: each is said, and each gives the same answer."""

from pathlib import Path

from command import all_of, refused, start, twofold

USAGE_ERROR = 2


def test_every_address_of_a_weight_processor_is_said_and_gives_the_same_answer(tiny: Path, tmp_path: Path) -> None:
    asked = ("tcp://127.0.0.1:0", "ws://127.0.0.1:0", f"shm://{tmp_path}/socket")
    flags = [text for url in asked for text in ("--listen", url)]
    with start("weights", tiny, *flags) as running:
        lines = running.wait_output(b"/socket\n").decode().splitlines()
        urls = [line.removeprefix("ready ") for line in lines]
        assert [url.partition("://")[0] for url in urls] == ["tcp", "ws", "shm"]
        found = all_of({url: ("run", "hi there", "--weights", url, "--json") for url in urls})
    assert len({finished.json["text"] for finished in found.values()}) == 1


def test_origins_that_cannot_be_are_refused(tiny: Path) -> None:
    ws = ("weights", tiny, "--listen", "ws://127.0.0.1:0")
    refused(twofold(*ws, "--origin", "chat.example"), USAGE_ERROR, "'chat.example' is no origin")
    refused(twofold("weights", tiny, "--origin", "https://chat.example"), USAGE_ERROR, "--listen has none")
