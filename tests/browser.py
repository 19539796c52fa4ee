"""A real browser without a screen: Chromium, driven by its own protocol over two pipes, with nothing but Python."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional

# The names under which distributions install it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> Optional[str]:
    """The path of a browser, if this machine has one."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One page of a browser that has no network. `told` are the lines of its console, `requested` what it asked for."""

    def __init__(self, profile: Path) -> None:
        self.told: List[str] = []
        self.requested: List[str] = []
        self._number, self._buffer = 0, b""
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        words = [str(find()), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        words += ["--no-first-run", "--disable-extensions", "--disable-background-networking", "--hide-scrollbars"]
        words += [
            "--user-data-dir=%s" % profile,
            "--remote-debugging-pipe",
            "--proxy-server=127.0.0.1:9",
            "about:blank",
        ]
        # It reads its orders from descriptor 3, and answers on 4.
        script = 'exec "$@" 3<&%d 4>&%d' % (theirs_in, theirs_out)
        with open(os.devnull, "w") as null:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", script, "browser"] + words,
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=null,
                stderr=null,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        pages = self._ask("Target.getTargets", {}, "")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        answer = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True}, "")
        self._session = str(answer["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(domain + ".enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def ask(self, method: str, **params: Any) -> Dict[str, Any]:
        """A command of the protocol about the page."""
        return self._ask(method, params, self._session)

    def open(self, path: Path, width: int = 1200, dark: bool = False, height: int = 900) -> None:
        """Open a file, in a window of this width."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.navigate", url=path.as_uri())
        while self.run("document.readyState") != "complete" or self.run("location.href") != path.as_uri():
            pass  # each question waits for the browser

    def run(self, script: str) -> Any:
        """What a script of the test gives, in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, top: int, width: int, height: int) -> None:
        """A picture of a part of the page."""
        part = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        answer = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=part)
        path.write_bytes(base64.b64decode(answer["data"]))

    def print(self, path: Path) -> None:
        """The page on paper, as a PDF."""
        answer = self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _ask(self, method: str, params: Dict[str, Any], session: str) -> Dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])
            self._note(answer)

    def _next(self) -> Dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message.decode()))

    def _note(self, event: Dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.told.append(json.dumps(params))
        elif method == "Log.entryAdded":
            self.told.append(str(params["entry"]["text"]))
        elif method == "Network.requestWillBeSent":
            self.requested.append(str(params["request"]["url"]))
