"""The page as it is served: its headers, its cache, and that it needs nothing from elsewhere."""

import re
from pathlib import Path

import pytest
from served import Served

from twofold.server.front_page import FILES, page_files

SCRIPTS = [path for path in FILES if path.endswith(".js")]
KINDS = {"/": "text/html; charset=utf-8", "/page.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml"}


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_served_with_a_policy_that_allows_this_server_alone(served: Served, path: str) -> None:
    given = served.get(path)
    assert (given.status_code, given.content) == (200, FILES[path].content)
    assert given.headers["content-type"] == KINDS.get(path, "text/javascript; charset=utf-8")
    assert given.headers["x-content-type-options"] == "nosniff"
    policy = dict(rule.split(" ", 1) for rule in given.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}


def test_a_browser_that_has_a_file_is_not_sent_it_again(served: Served) -> None:
    given = served.get("/page.js")
    again = served.get("/page.js", headers={"if-none-match": given.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", given.headers["etag"])
    assert served.get("/page.js", headers={"if-none-match": '"another"'}).status_code == 200
    assert given.headers["cache-control"] == "no-cache"


def test_another_content_has_another_etag(tmp_path: Path) -> None:
    etags = set()
    for text in ("one", "two"):
        (tmp_path / "index.html").write_text(text)
        etags.add(page_files(tmp_path)["/"].etag)
    assert len(etags) == 2


def test_the_page_needs_no_key_as_a_browser_cannot_send_one(tiny_path: Path) -> None:
    served = Served(tiny_path, keys={"tests": "a-key-of-many-letters"})
    assert {served.get(path).status_code for path in FILES} == {200}


@pytest.mark.parametrize("path", FILES)
def test_no_file_names_an_address_elsewhere(path: str) -> None:
    text = FILES[path].content.decode().replace("http://www.w3.org/2000/svg", "")  # a name, which nobody fetches
    assert re.findall(r"[a-z]+://\w|[\"'(]//", text) == []


def test_all_that_the_page_asks_for_is_there() -> None:
    markup = FILES["/"].content.decode()
    asked = set(re.findall(r'(?:href|src)="([^#"]+)"', markup))
    for script in SCRIPTS:
        asked |= {name.removeprefix("./") for name in re.findall(r'from "([^"]+)"', FILES[script].content.decode())}
    assert {f"/{name}" for name in asked} == set(FILES) - {"/"}


def test_every_element_that_a_script_looks_for_is_in_the_page() -> None:
    known = set(re.findall(r'\bid="([^"]+)"', FILES["/"].content.decode()))
    sought = {
        name for path in SCRIPTS for name in re.findall(r'\b(?:at|tell)\("([^"]+)"', FILES[path].content.decode())
    }
    assert len(sought) > 20
    assert sought <= known


def test_nothing_is_inline_as_the_policy_forbids_it() -> None:
    assert re.findall(r"<style|<script(?![^>]*src=)|\son\w+=|\sstyle=|javascript:", FILES["/"].content.decode()) == []
