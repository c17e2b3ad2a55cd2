"""A real browser for tests: Chromium without a window and without a network, driven by WebDriver.

Chromedriver is spoken to over HTTP on this machine (W3C WebDriver), so no package is needed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that W3C WebDriver names an element by
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--force-device-scale-factor=1"),
]


class Browser:
    """One page at a time; ``run`` executes JavaScript in it and returns what it returns."""

    def __init__(self, address: str, binary: str, profile: str, width: int, height: int) -> None:
        flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        options = {"args": flags, "binary": binary}
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self.session = address
        opened = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"{address}/session/{opened['sessionId']}"

    def open(self, page: Path) -> None:
        self._ask("POST", "/url", {"url": page.absolute().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, condition: str, seconds: float = 20) -> None:
        """Wait until a JavaScript expression is true."""
        script = """
            const done = arguments[0];
            const look = () => (%s) ? done(true) : setTimeout(look, 30);
            look();"""
        self._ask("POST", "/timeouts", {"script": int(seconds * 1000)})
        self._ask("POST", "/execute/async", {"script": script % condition, "args": []})

    def click(self, selector: str) -> None:
        self._ask("POST", f"/element/{self._element(selector)}/click", {})

    def press(self, selector: str, keys: str) -> None:
        self._ask("POST", f"/element/{self._element(selector)}/value", {"text": keys})

    def wheel(self, selector: str, pixels: int) -> None:
        origin = {ELEMENT: self._element(selector)}
        scroll = {"type": "scroll", "x": 0, "y": 0, "deltaX": 0, "deltaY": pixels, "origin": origin}
        actions = [{"type": "wheel", "id": "wheel", "actions": [scroll]}]
        self._ask("POST", "/actions", {"actions": actions})

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the last call."""
        logged = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in logged if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call, but for what the page forbade."""
        logged = self._ask("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in logged]
        asked = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        failed = [m["params"] for m in messages if m["method"] == "Network.loadingFailed"]
        forbidden = {one["requestId"] for one in failed if one.get("blockedReason") == "csp"}
        return [one["request"]["url"] for one in asked if one["requestId"] not in forbidden]

    def close(self) -> None:
        self._ask("DELETE", "")

    def _element(self, selector: str) -> str:
        how = {"using": "css selector", "value": selector}
        return str(self._ask("POST", "/element", how)[ELEMENT])

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = Request(
            self.session + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:  # the driver's answer to what the page could not do
            raise AssertionError(json.load(error)["value"]["message"]) from None


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """Skips a test where Chromium and its driver are not installed."""
    driver, binary = (
        shutil.which("chromedriver"),
        next(filter(None, map(shutil.which, NAMES)), None),
    )
    if driver is None or binary is None:
        pytest.skip("no Chromium with chromedriver is installed here")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            told = iter(process.stdout.readline, "")
            port = next(
                found[1]
                for line in told
                if (found := re.search(r"successfully on port (\d+)", line))
            )
            browser = Browser(f"http://127.0.0.1:{port}", binary, profile, width, height)
            try:
                yield browser
            finally:
                browser.close()
        finally:
            process.terminate()
            process.wait(10)
