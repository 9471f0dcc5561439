"""Headless Chromium, driven by its debugging protocol."""

import base64
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from clean_room import PATIENCE_SECONDS, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_OVERFLOWING = """
(() => {
  const root = document.documentElement, found = [];
  if (root.scrollWidth > root.clientWidth) found.push(`page: ${root.scrollWidth}`);
  for (const each of document.querySelectorAll("body *:not(svg *)")) {
    const box = each.getBoundingClientRect(), style = getComputedStyle(each);
    if (style.clipPath !== "none" || each.closest("thead")) continue;
    const isInline = style.display === "inline" || each instanceof SVGElement;
    const isWide = !isInline && each.scrollWidth > each.clientWidth + 1;
    if (isWide || box.right > root.clientWidth + 0.5)
      found.push(`${each.tagName} to ${box.right}: ${each.textContent.slice(0, 60)}`);
  }
  return found;
})()
"""
"""What is wider than its place, or reaches beyond the right edge of the page."""

_LOADED = """
new Promise(done => document.readyState === "complete" ? done() : addEventListener("load", done))
"""

_CONTRASTS = """
(() => {
  const color = text => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return parts.length < 4 ? [...parts, 1] : parts; };
  const light = rgb => { const [r, g, b] = rgb.slice(0, 3).map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = node => { for (; node; node = node.parentElement) {
    const found = color(getComputedStyle(node).backgroundColor); if (found[3] === 1) return found; }
    return [255, 255, 255, 1]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest("title, style")) continue;
    const style = getComputedStyle(node);
    const ink = light(color(node instanceof SVGElement ? style.fill : style.color));
    const ground = light(behind(node));
    const ratio = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    if (ratio < 4.5)
      found.push(`${ratio.toFixed(2)} ${node.tagName} ${node.textContent.slice(0, 40)}`);
  }
  return [...new Set(found)];
})()
"""
"""The texts whose contrast with their background is below 4.5."""


@dataclass
class Tab:
    """A page that is shown at one width and in one theme."""

    socket: aiohttp.ClientWebSocketResponse
    requests: list[str] = field(default_factory=list)
    """The addresses that were asked for, the page's own included."""
    complaints: list[str] = field(default_factory=list)
    """What the browser wrote to its console."""
    _number: int = 0

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        await self.socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json(timeout=PATIENCE_SECONDS)
            self._note(message)
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        elif message.get("method") == "Log.entryAdded":
            self.complaints.append(message["params"]["entry"]["text"])

    async def open(self, page: Path) -> None:
        for domain in ("Network", "Page", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=page.as_uri())
        await self.evaluate(_LOADED)

    async def show(self, width: int, theme: str, *, media: str = "") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        await self.call("Emulation.setEmulatedMedia", media=media, features=features)

    async def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - any JSON value
        options = {"returnByValue": True, "awaitPromise": True}
        answer = await self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def overflowing(self) -> list[str]:
        found: list[str] = await self.evaluate(_OVERFLOWING)
        return found

    async def low_contrasts(self) -> list[str]:
        found: list[str] = await self.evaluate(_CONTRASTS)
        return found

    async def screenshot(self) -> bytes:
        """Return the whole page as a PNG."""
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@contextmanager
def chromium(folder: Path) -> Iterator[int]:
    """Run Chromium with a profile of its own; yield the port that it listens on."""
    assert CHROMIUM is not None
    profile = folder / "profile"
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage")
    process = subprocess.Popen(
        [CHROMIUM, *flags, *quiet, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )
    port_file = profile / "DevToolsActivePort"
    try:
        until(
            lambda: (
                process.poll() is not None
                or (port_file.exists() and port_file.read_text().count("\n") == 1)
            ),
            "Chromium listens",
        )
        yield int(port_file.read_text().split()[0])
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@asynccontextmanager
async def open_tab(port: int) -> AsyncIterator[Tab]:
    """Yield the tab of a running Chromium."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tabs = await answer.json()
        [address] = [tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"]
        async with session.ws_connect(address, max_msg_size=0) as socket:
            yield Tab(socket)
