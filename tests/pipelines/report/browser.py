"""Headless Chromium: opens a page at a given width, measures its layout and takes a picture.

Also a program: `python tests/pipelines/report/browser.py REPORT.html FOLDER` writes a picture at 390 and at 1440 pixels, light
and dark, and fails where something sticks out.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)
WIDTHS = (390, 1440)
_PROBE = """<script>
addEventListener("load", () => {
  const out = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1);
  parent.postMessage({scroll: document.documentElement.scrollWidth, inner: innerWidth, height: document.documentElement.scrollHeight,
    outside: out.slice(0, 5).map(e => e.outerHTML.slice(0, 90)), paper: getComputedStyle(document.body).backgroundColor,
    unnamed: document.querySelectorAll("img:not([alt]), svg:not([aria-label])").length}, "*");
});
</script></body>"""
# A window is 500 pixels wide at least; a frame in it has any width.
_FRAME = """<!doctype html><body style="margin:0"><iframe src="{file}" style="border:0;width:{width}px;height:900px"></iframe>
<script>onmessage = e => {{ document.title = "found " + JSON.stringify(e.data); }}</script></body>"""


@dataclass(frozen=True)
class Layout:
    """The measured layout of a page.

    Attributes:
        inner, scroll: width of the window, and of what is in it.
        outside: beginnings of elements that reach beyond the window.
        paper: colour behind everything.
        unnamed: pictures without a text.
        complaints: errors of the console.
    """

    inner: int
    scroll: int
    height: int
    outside: list[str]
    paper: str
    unnamed: int
    complaints: list[str]


def look(page: str, folder: Path, width: int, *, dark: bool) -> Layout:
    """Open a page, HTML text, in a frame of `width` pixels; leaves `<width>-<light or dark>.png` in the folder."""
    name = f"{width}-{'dark' if dark else 'light'}"
    inner, outer = folder / f"{name}-page.html", folder / f"{name}.html"
    inner.write_text(page.replace("</body>", _PROBE))
    outer.write_text(_FRAME.format(file=inner.name, width=width))
    done = _chromium(outer, width, 900, "--dump-dom", dark=dark)
    match = re.search(r"<title>found (.*?)</title>", done.stdout, flags=re.S)
    assert match, done.stderr[-2000:]
    found = json.loads(html.unescape(match[1]))
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    outer.write_text(outer.read_text().replace("height:900px", f"height:{found['height']}px"))
    _chromium(outer, width, found["height"], f"--screenshot={folder / f'{name}.png'}", dark=dark)
    return Layout(**found, complaints=complaints)


def _chromium(
    file: Path, width: int, height: int, *arguments: str, dark: bool
) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
    ]
    command += [f"--user-data-dir={file.parent / 'profile'}", f"--window-size={max(width, 500)},{height}"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--allow-file-access-from-files"]
    command += ["--virtual-time-budget=4000", *arguments, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


def require_sound(found: Layout, width: int, *, dark: bool) -> None:
    """Raise AssertionError if an element is wider than the page or has no name, or if the browser reports an error."""
    assert found.inner == width
    assert found.scroll <= found.inner, found.outside
    assert found.outside == []
    assert found.unnamed == 0
    assert found.complaints == []
    assert found.paper == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")


def main() -> None:
    """Check a report at both widths, light and dark."""
    report, folder = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        for dark in (False, True):
            found = look(report, folder, width, dark=dark)
            print(width, "dark" if dark else "light", found)
            require_sound(found, width, dark=dark)


if __name__ == "__main__":
    main()
