"""A headless Chromium that opens a page from a file and is driven by the DevTools protocol over a pipe.

The protocol: messages in JSON, each ended by a zero byte, to descriptor 3 of the browser and from its descriptor 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--hide-scrollbars"),
    *("--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
)
LONGEST_SECONDS = 120.0
KEYS = {"Escape": 27, "+": 187, "ArrowLeft": 37}


def find_browser() -> str | None:
    """The program; None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser of its own, which ends with the ``with`` block.

    Attributes:
        errors: what the page has said that is an error: exceptions, and messages of that level.
    """

    def __init__(self, program: str, profile: Path) -> None:
        """``profile``: a directory for what the browser keeps."""
        to_browser, from_browser = os.pipe(), os.pipe()
        # Only root has to do without the sandbox.
        sandbox = ("--no-sandbox",) if os.getuid() == 0 else ()
        command = [program, *FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
        redirected = f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirected, "bash", *command],
            pass_fds=(to_browser[0], from_browser[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        self._write, self._read = to_browser[1], from_browser[0]
        self._received, self._number, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        self._process.wait(30)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; gives its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        number = self._number
        answer = self._until(lambda found: found.get("id") == number)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _until(self, wanted: Any) -> dict[str, Any]:
        """The next message that is wanted; what comes before is kept."""
        end = time.monotonic() + LONGEST_SECONDS
        while True:
            while b"\0" in self._received:
                text, _, self._received = self._received.partition(b"\0")
                message: dict[str, Any] = json.loads(text)
                self._note(message)
                if wanted(message):
                    return message
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, f"the browser has ended: {self._process.wait(30)}"
            self._received += part

    def _note(self, message: dict[str, Any]) -> None:
        """Keep an error of the page."""
        name, found = message.get("method"), message.get("params", {})
        if name == "Runtime.exceptionThrown":
            self.errors.append(str(found["exceptionDetails"]))
        elif name == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.errors.append(found["entry"]["text"])
        elif name == "Runtime.consoleAPICalled" and found["type"] in ("error", "assert"):
            self.errors.append(str(found["args"]))

    def open(self, page: Path, width: int, height: int, *, phone: bool = False) -> None:
        """Open a page from its file, in a window of so many pixels of CSS."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Page.navigate", url=page.resolve().as_uri())
        self._until(lambda found: found.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of the page's script."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true: what an event leads to may come after it."""
        look = f"const look = () => (({expression}) ? done() : setTimeout(look, 10)); look();"
        answer = self.call("Runtime.evaluate", expression=f"new Promise((done) => {{ {look} }})", awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]

    def click(self, element: str) -> None:
        """Click in the middle of an element, which an expression gives, as a mouse does."""
        self.evaluate(f"({element}).scrollIntoView({{block: 'center'}})")
        middle = "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
        box = self.evaluate(f"{middle}(({element}).getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Write what is to be seen, or the whole page, as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))
