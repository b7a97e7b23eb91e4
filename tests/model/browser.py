"""A headless Chromium, driven through its DevTools protocol: enough to fill in a page and take a picture of it."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    def __init__(self, folder: Path, width: int = 1100, height: int = 760) -> None:
        assert PROGRAM
        self.process = subprocess.Popen(
            [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--force-device-scale-factor=1",
             f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port_file = folder / "DevToolsActivePort"
        wait_for(lambda: port_file.is_file() and port_file.read_text(), 60)
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            (tab,) = [x for x in json.load(answer) if x["type"] == "page"]
        self.socket = connect(tab["webSocketDebuggerUrl"], max_size=None)
        self.number = 0
        self.requested: list[str] = []
        self.call("Network.enable")
        self.call("DOM.enable")

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": arguments}))
        while True:
            message = json.loads(self.socket.recv(timeout=120))
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def wait(self, script: str, seconds: float = 90) -> Any:
        """The value of `script` as soon as it is true; a node has no value, so ask whether there is one (!!)."""
        return wait_for(lambda: self.run(script), seconds)

    def upload(self, selector: str, path: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)


def wait_for(ready: Any, seconds: float) -> Any:
    """What `ready` gives as soon as it is true. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = ready()
        if value:
            return value
        time.sleep(0.2)
    raise TimeoutError(f"not within {seconds} s")
