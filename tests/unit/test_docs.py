"""The documentation is true where a machine can tell: links, names, verbs, targets, versions, constants."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from twofold.cli.main import VERBS, command
from twofold.model.manifest import NUMERICS
from twofold.wire import frame
from twofold.wire.message import PROTOCOL

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = (ROOT / "README.md").read_text()

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
OUTSIDE = re.compile(
    r"(?<![\w.:/])(?:/(?:home|root|work|opt|tmp|usr|var|mnt|srv|Users)/[\w./-]*|file://\S*|[A-Z]:\\\S*)"
)
ALLOWED_OUTSIDE = {"/tmp/twofold-UID"}  # where a shm:// name lies without XDG_RUNTIME_DIR


class Link(NamedTuple):
    """A link of one page to something in the repository."""

    page: Path
    text: str
    target: str

    @property
    def path(self) -> Path:
        """The file or folder it leads to."""
        place = self.target.partition("#")[0]
        return (self.page.parent / place).resolve() if place else self.page

    @property
    def anchor(self) -> str:
        """The heading it leads to; empty for the page itself."""
        return self.target.partition("#")[2]


def relative_links() -> Iterator[Link]:
    for page in PAGES:
        for text, target in LINK.findall(FENCED.sub("", page.read_text())):
            if not re.match(r"[a-z]+:", target):
                yield Link(page, text, target)


def name(value: object) -> str:
    match value:
        case Path():
            return str(value.relative_to(ROOT))
        case Link():
            return f"{value.page.name}: {value.text} -> {value.target}"
        case _:
            return str(value)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosts of Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_of(text: str) -> str:
    """All that is written as code in a page."""
    return "\n".join(block or span for block, span in CODE.findall(text))


def verbs() -> set[str]:
    return {name.split()[0] for name in VERBS}


LINKS = list(relative_links())


def test_the_pages_that_the_readme_promises_are_read_here() -> None:
    read = {name(page) for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/tour.md"} <= read
    assert len(LINKS) > 50


@pytest.mark.parametrize("link", LINKS, ids=name)
def test_every_relative_link_leads_to_something_in_the_repository(link: Link) -> None:
    assert link.path.is_relative_to(ROOT), "the link leaves the repository"
    assert link.path.exists()


@pytest.mark.parametrize("link", [link for link in LINKS if link.anchor], ids=name)
def test_every_anchor_is_a_heading_of_the_page_it_is_in(link: Link) -> None:
    assert link.anchor in anchors(link.path)


@pytest.mark.parametrize("link", [link for link in LINKS if re.fullmatch(r"`[\w.]+`", link.text)], ids=name)
def test_a_link_named_after_code_leads_to_a_file_that_has_it(link: Link) -> None:
    wanted = link.text.strip("`")
    if wanted == link.path.name:
        return
    source = link.path.read_text() if link.path.is_file() else " ".join(p.name for p in link.path.parent.iterdir())
    for part in wanted.split("."):
        assert re.search(rf"\b{part}\b", source), f"{part} is not there"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_verb_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"(?m)(?:^|[\s`(])(?<!from )twofold ([a-z]+)\b", code_of(page.read_text())))
    assert named <= verbs()


def test_the_readme_names_every_verb() -> None:
    named = set(re.findall(r"`twofold ([a-z]+)\b", README))
    assert named == verbs()
    assert all(f"`twofold {name}" in README for name in VERBS)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", code_of(page.read_text())))
    assert named <= targets


def test_the_readme_names_the_two_commands_of_a_fresh_clone() -> None:
    assert {"run", "test"} <= set(re.findall(r"^make ([a-z]+)\b", code_of(README), re.MULTILINE))


def test_every_option_that_the_readme_names_exists() -> None:
    known = {option for verb in VERBS for parameter in command(verb).params for option in parameter.opts}
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", code_of(README)))
    assert named
    assert named <= known | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_line_names_a_path_outside_the_repository(page: Path) -> None:
    found = set(OUTSIDE.findall(page.read_text())) - ALLOWED_OUTSIDE
    assert not found
    assert str(ROOT) not in page.read_text()


def test_a_path_outside_the_repository_would_be_noticed() -> None:
    assert OUTSIDE.findall("see /home/someone/notes, file:///x and `/tmp/a.txt`, not shm:///absolute/path") == [
        "/home/someone/notes",
        "file:///x",
        "/tmp/a.txt",
    ]


def test_the_pages_state_the_versions_of_the_code() -> None:
    assert (ROOT / "docs/numerics.md").read_text().startswith(f"# Numerics version {NUMERICS}\n")
    wire = " ".join((ROOT / "docs/wire.md").read_text().split())
    assert f"Protocol version {PROTOCOL}, frame version {frame.VERSION}." in wire


def test_every_coefficient_of_the_arithmetic_is_written_down() -> None:
    number = re.compile(r"-?\d+\.\d{6,}(?:e[-+]?\d+)?")
    used = set(number.findall((ROOT / "src/twofold/kernels/arithmetic.py").read_text()))
    written = set(number.findall((ROOT / "docs/numerics.md").read_text()))
    assert len(used) > 15
    assert used <= written


def test_every_decision_has_a_number_of_its_own_and_says_so() -> None:
    records = sorted((ROOT / "docs/decisions").glob("*.md"))
    numbers = [record.name[:4] for record in records]  # with gaps while several are being written
    assert len(set(numbers)) == len(records)
    assert all(re.fullmatch("[0-9]{4}", number) for number in numbers)
    assert all(record.read_text().startswith(f"# {record.name[:4]} ") for record in records)
