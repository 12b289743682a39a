"""A report in a headless browser, without a network, and everything that goes wrong on it."""

from __future__ import annotations

import os
import shutil
import time

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
#: Marks of tests that need a browser.
IN_BROWSER = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.timeout(300),
]
#: Seconds that a browser on a busy machine may take for one thing.
_PATIENCE = 120

#: Every visible text's contrast with what is behind it, by WCAG's formula, where it is too low.
LOW_CONTRAST = """
() => {
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const luminance = ({ rgb }) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) =>
      c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.a > 0.99) return color;
    }
    return { rgb: [255, 255, 255], a: 1 };
  };
  const low = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim()) continue;
    if (element.closest("script, noscript, title, option")) continue;
    if (!element.checkVisibility() || element.disabled) continue;
    const style = getComputedStyle(element);
    if (style.paintOrder === "stroke") continue; // white with a black outline
    const ink = element.closest("svg") ? style.fill : style.color;
    const [x, y] = [luminance(parse(ink)), luminance(behind(element))].sort((p, q) => q - p);
    const mark = element.classList.contains("mark");
    seen += 1;
    const enough = (x + 0.05) / (y + 0.05) >= (mark ? 3 : 4.5);
    if (!enough) low.push([element.textContent.slice(0, 40), ink]);
  }
  return { seen, low };
}
"""


class Reader:
    """A page with everything that went wrong on it."""

    def __init__(self, browser, folder, fragment="", **context):
        context = {"viewport": {"width": 1280, "height": 900}, **context}
        self.context = browser.new_context(offline=True, **context)
        self.context.set_default_timeout(1000 * _PATIENCE)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        page = self.page
        page.on("console", self.heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", self.asked)
        page.goto(f"file://{folder}/index.html{fragment}")
        page.wait_for_selector("#count:not(:text('Loading'))")

    def heard(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def asked(self, dialog):
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def until(self, holds):
        """Waits for an expression to be true; asked from outside, since the page allows no eval."""
        self.comes(lambda: bool(self.page.evaluate(holds)), True, holds)

    def comes(self, read, expected, of=""):
        """Waits until a function returns what is expected: a busy browser takes its time."""
        end = time.monotonic() + _PATIENCE
        while (value := read()) != expected:
            assert time.monotonic() < end, f"{of} stayed {value!r} and not {expected!r}"
            self.page.wait_for_timeout(50)

    def samples(self):
        """(prompt id, index) of the cards, in their order."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll(".card .about")].map((line) => {
                 const [id, image] = line.textContent.split(" · ");
                 return [id, Number(image.replace("image ", "")) - 1];
               })"""
        )

    def choose(self, **values):
        for name, value in values.items():
            self.page.select_option(
                f"#{name}", **({"label": value} if name != "size" else {"value": value})
            )

    def state(self):
        return self.page.evaluate("location.hash")

    def focused(self):
        """(prompt id, index, checkpoint) of the tile that has the focus."""
        return self.page.evaluate(
            """() => {
                 const tile = document.activeElement.closest(".tile");
                 if (!tile) return null;
                 const about = tile.closest(".card").querySelector(".about");
                 const [id, image] = about.textContent.split(" · ");
                 const number = Number(image.replace("image ", "")) - 1;
                 return [id, number, Number(tile.dataset.checkpoint)];
               }"""
        )
