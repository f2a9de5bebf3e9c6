"""Headless Chromium over the WebDriver protocol (W3C), as chromedriver speaks it; nothing but HTTP and JSON."""

import base64
import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

NEEDED = ("chromium", "chromedriver")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element
ENTER, SHIFT, RELEASE = "\ue007", "\ue008", "\ue000"
PATIENCE_SECONDS = 60.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-color-profile=srgb", "--hide-scrollbars",
)  # fmt: skip


def missing() -> str:
    """What is not installed; empty if nothing."""
    return " and ".join(program for program in NEEDED if shutil.which(program) is None)


class Browser:
    """One window. Waiting happens inside the page, so nothing here sleeps."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self._client, self._session = client, session

    def command(self, method: str, path: str, **body: Any) -> Any:
        """A command of the protocol; AssertionError with its message if it fails."""
        request: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": body}
        value = self._client.request(method, f"/session/{self._session}{path}", **request).json()["value"]
        assert not (isinstance(value, dict) and "error" in value), value
        return value

    def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self.command("POST", "/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What the JavaScript returns."""
        return self.command("POST", "/execute/sync", script=script, args=list(arguments))

    def until(self, expression: str, *arguments: Any) -> Any:
        """The value of a JavaScript expression once it is true."""
        script = f"""
            const done = arguments[arguments.length - 1];
            const look = () => {{ const value = {expression}; if (value) done(value); else setTimeout(look, 10); }};
            look();"""
        return self.command("POST", "/execute/async", script=script, args=list(arguments))

    def text(self, selector: str) -> str:
        """The text of the first element that is chosen."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def type(self, selector: str, keys: str) -> None:
        """Press keys in an element."""
        self.command("POST", f"/element/{self._element(selector)}/value", text=keys)

    def click(self, selector: str) -> None:
        """Click on an element."""
        self.command("POST", f"/element/{self._element(selector)}/click")

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.command("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def resize(self, width: int, height: int) -> None:
        """Give the page so many pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("POST", "/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)

    def prefer(self, name: str, value: str) -> None:
        """Let the user prefer `value` for a media feature, and nothing for others."""
        features = [{"name": f"prefers-{name}", "value": value}]
        self.command("POST", "/goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"features": features})

    def picture(self) -> bytes:
        """The window as a PNG."""
        return base64.b64decode(self.command("GET", "/screenshot"))

    def complaints(self) -> list[str]:
        """What the console was told since this was last asked: errors and warnings, the browser's own included."""
        return [entry["message"] for entry in self.command("POST", "/se/log", type="browser")]

    def origins(self) -> set[str]:
        """Origins that requests of the page went to since this was last asked."""
        entries = [json.loads(e["message"])["message"] for e in self.command("POST", "/se/log", type="performance")]
        urls = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
        return {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in urls}

    def _element(self, selector: str) -> str:
        return str(self.command("POST", "/element", using="css selector", value=selector)[ELEMENT])


@contextlib.contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser with its profile in `folder`, ended afterwards."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert driver.stdout is not None
        said = next(line for line in driver.stdout if "started successfully on port" in line)
        port = int(said.split()[-1].rstrip("."))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS, trust_env=False) as client:
            session = client.post("/session", json={"capabilities": {"alwaysMatch": _capabilities(folder)}}).json()
            browser = Browser(client, session["value"]["sessionId"])
            browser.command("POST", "/timeouts", script=int(PATIENCE_SECONDS * 1000 / 3))
            try:
                yield browser
            finally:
                browser.command("DELETE", "")
    finally:
        driver.terminate()
        driver.communicate()


def _capabilities(folder: Path) -> dict[str, Any]:
    return {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={folder}"]},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }
