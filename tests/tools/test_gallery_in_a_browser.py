"""The gallery in a real browser: opened from the file, at the width of a desk and of a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import make_gallery
import pytest
from browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian's package chromium)")
WIDTHS = pytest.mark.parametrize("width", [1200, 400])
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll("body *")]
    .filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) && e.offsetParent)
    .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
BROKEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
WIDER = """[...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map(e => e.tagName + ": " + e.textContent.slice(0, 40))"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gallery") / "index.html"
    assert make_gallery.main(["--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@WIDTHS
def test_the_page_loads_without_errors_and_fits(browser: Browser, gallery: Path, width: int) -> None:
    browser.open(gallery, width=width)
    assert browser.errors == []
    assert browser.value("document.images.length") == 1 + 2 * len(
        list(make_gallery.REPOSITORY.glob("bundles/*/configs"))
    )
    assert browser.value(BROKEN) == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(WIDER) == []
    assert browser.value(SMALLEST_TEXT) >= 14


def test_what_the_test_looks_for_is_found(browser: Browser, tmp_path: Path) -> None:
    """A missing picture, a wide line, small print and a script's error do not pass."""
    page = tmp_path / "index.html"
    page.write_text(
        '<meta name="viewport" content="width=device-width"><p style="width:900px;font-size:9px">wide</p>'
        '<img src="lost.png"><script>lost()</script>'
    )
    browser.open(page, width=400)
    assert len(browser.errors) >= 2
    assert len(browser.value(BROKEN)) == 1
    assert browser.value(WIDER)
    assert browser.value(SMALLEST_TEXT) == 9
