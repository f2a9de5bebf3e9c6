"""The page at `/` in a real browser: it chats, stops, turns dark, and asks nobody but its own server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import ENTER, RELEASE, SHIFT, Browser, browsing, missing
from command import start
from fake_serving import TEXT
from http_server import Running, running

from twofold.errors import ProcessorLost

KEY = "a-key-of-many-letters"
PICTURE = "TWOFOLD_PAGE_PICTURE"  # where to write the screenshot of the README; nowhere if it is not set
PICTURE_BYTES = 150 * 1024
TAB = "\ue004"
ANSWER = "#talk li.assistant:last-child p:last-child"
ANSWERED = f"document.querySelector('{ANSWER}')?.innerText"
DONE = "!document.querySelector('#send').disabled"

pytestmark = pytest.mark.skipif(
    bool(missing()), reason=f"the page was NOT tested: no {missing()} (Debian: apt install chromium chromium-driver)"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def server(roomy_path: Path) -> Iterator[Running]:
    with running(roomy_path) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: Running) -> Iterator[Browser]:
    """The page of `server`, of which nothing may be complained about and from which nobody else may be asked."""
    opened(browser, server.url)
    yield browser
    assert browser.complaints() == []
    assert browser.origins() == {server.url}


def opened(browser: Browser, url: str) -> None:
    """Go to the page of a server, with nothing left of other pages."""
    browser.open("about:blank")
    browser.complaints()
    browser.origins()
    browser.resize(1280, 800)
    browser.prefer("reduced-motion", "no-preference")
    browser.open(f"{url}/")
    browser.until("document.querySelector('#model').innerText !== 'connecting…'")


def test_enter_sends_shift_enter_does_not_and_turns_follow_each_other(page: Browser, server: Running) -> None:
    page.type("#prompt", f"hello{SHIFT}{ENTER}{RELEASE}the")
    assert page.run("return document.querySelector('#prompt').value") == "hello\nthe"
    page.type("#prompt", ENTER)
    page.until(f"{DONE} && {ANSWERED}")
    assert page.text(ANSWER) == TEXT
    first = len(server.serving.asked.prompt)
    page.type("#prompt", "again" + ENTER)
    page.until(f"{DONE} && document.querySelectorAll('#talk li').length === 4")
    assert len(server.serving.asked.prompt) > first + len(TEXT.split())  # all that was said before is in it
    assert "tokens in" in page.text("#state")
    page.click("#clear")
    assert page.run("return document.querySelectorAll('#talk li').length") == 0


def test_text_streams_and_stop_ends_it_at_the_server_too(page: Browser, server: Running) -> None:
    server.serving.held = True
    page.type("#prompt", "hello" + ENTER)
    assert page.until(ANSWERED) == "hello"  # the rest is held back
    assert page.run("return document.querySelector('#talk').getAttribute('aria-busy')") == "true"
    page.click("#stop")
    page.until(DONE)
    assert server.serving.answers[-1].ended.wait(10)
    assert page.text("#state") == "Stopped."
    assert page.text(ANSWER) == "hello"
    assert page.run("return document.activeElement.id") == "prompt"


def test_the_colours_follow_the_system_until_one_chooses_and_stay_chosen(page: Browser, server: Running) -> None:
    ground = "return getComputedStyle(document.documentElement).backgroundColor"

    page.prefer("color-scheme", "dark")
    dark = page.run(ground)
    page.prefer("color-scheme", "light")
    light = page.run(ground)
    assert light != dark
    page.click("#theme option[value=dark]")
    assert page.run(ground) == dark
    page.open(f"{server.url}/")
    assert page.run(ground) == dark
    page.click("#theme option[value='']")
    assert page.run(ground) == light


def test_all_of_it_is_reached_with_the_tab_key_and_has_a_name(page: Browser) -> None:
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.run("document.querySelector('.skip').focus()")
    reached: list[str] = []
    while "BODY" not in reached:
        assert len(reached) < 20
        assert page.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.press(TAB)
        reached.append(page.run("return document.activeElement.id || document.activeElement.tagName"))
    assert {"theme", "talk", "prompt", "send", "clear", "temperature", "max-tokens", "system"} <= set(reached)
    nameless = """
        return [...document.querySelectorAll('input, select, textarea, button')]
          .filter((one) => !one.innerText && !one.labels?.length).map((one) => one.id)"""
    assert page.run(nameless) == []


@pytest.mark.parametrize("width", [320, 700, 1280])
def test_nothing_is_wider_than_the_window(page: Browser, width: int) -> None:
    page.resize(width, 700)
    assert page.run("return document.documentElement.scrollWidth") <= width


def test_nothing_moves_for_those_who_prefer_that(page: Browser) -> None:
    moves = "return getComputedStyle(document.querySelector('#pages rect')).transitionDuration"
    page.until("document.querySelector('#pages rect')")
    assert "0.3s" in page.run(moves)
    page.prefer("reduced-motion", "reduce")
    assert page.run(moves) == "0s"


def test_errors_are_told_in_words_and_the_message_can_be_sent_again(browser: Browser, server: Running) -> None:
    opened(browser, server.url)
    server.serving.failing = ProcessorLost("the weights went away; start them again")
    browser.type("#prompt", "hello" + ENTER)
    browser.until("document.querySelector('#alert').innerText")
    assert browser.text("#alert") == "The weights went away; start them again."
    browser.until(DONE)
    assert browser.run("return document.querySelector('#prompt').value") == "hello"
    server.serving.failing = None
    browser.type("#prompt", ENTER)
    browser.until(f"{DONE} && {ANSWERED}")
    assert browser.text("#alert") == ""
    assert browser.run("return document.querySelectorAll('#talk li').length") == 2


def test_a_server_with_keys_is_asked_with_the_key_of_the_tab(browser: Browser, roomy_path: Path) -> None:
    with running(roomy_path, keys={"tests": KEY}) as server:
        opened(browser, server.url)
        browser.until("!document.querySelector('#key-form').hidden")
        assert "key is missing or wrong" in browser.text("#model")
        browser.type("#key", KEY + ENTER)
        browser.until("document.querySelector('#model').innerText === 'tiny'")
        browser.type("#prompt", "hello" + ENTER)
        browser.until(f"{DONE} && {ANSWERED}")
        assert browser.text(ANSWER) == TEXT
        assert browser.run("return Object.values(localStorage).concat(document.cookie).join()").find(KEY) == -1
        assert browser.run("return sessionStorage.getItem('twofold-key')") == KEY


@pytest.mark.usefixtures("smollm2_path")
def test_the_picture_shows_what_a_real_model_does(browser: Browser) -> None:
    with start("serve", "smollm2", "--port", "0") as served:
        url = served.wait_output(b"\n").decode().split()[1]
        opened(browser, url)
        browser.prefer("reduced-motion", "reduce")
        browser.run("document.querySelector('#temperature').value = 0")
        for number, question in enumerate(("What is a memory?", "How does it work?"), 1):
            browser.type("#prompt", question + ENTER)
            browser.until(f"{DONE} && document.querySelectorAll('#talk li').length === {2 * number}")
        assert len(browser.text(ANSWER)) > 100
        bars = (
            "[...document.querySelectorAll('#layers g rect')].filter((one) => +one.getAttribute('height') > 0).length"
        )
        assert browser.until(f"{bars} > 60 && {bars}") == 30 + 31  # context of every layer, every segment and the end
        assert "in this process" in browser.text("#processors")
        assert "µs a row" in browser.text("#layers-text")
        assert browser.complaints() == []
        assert browser.origins() == {url}
        if PICTURE in os.environ:
            browser.until(
                "document.querySelector('#running').innerText + document.querySelector('#waiting').innerText === '00'"
            )
            browser.resize(1060, 690)
            picture = browser.picture()
            assert len(picture) < PICTURE_BYTES
            Path(os.environ[PICTURE]).write_bytes(picture)
