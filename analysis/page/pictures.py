"""Figures within a page: SVG that stays sharp when it is enlarged, or PNG where an SVG has too many marks."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

LARGEST_BYTES = 500_000
"""Above it a page opens slowly by the marks of one figure, and the PNG is taken."""
INCH = 96
"""Pixels of CSS in an inch; the points of an SVG are 72."""
FONTS = "'DejaVu Sans', Verdana, sans-serif"
"""What figures are laid out with, and what is as wide on machines that lack it."""


@dataclass(frozen=True)
class Picture:
    """A figure as it stands in a page.

    Attributes:
        markup: the ``svg`` or ``img`` element.
        note: what is to be known of it; may be empty.
    """

    markup: str
    note: str = ""


def picture(svg: Path, png: Path, alt: str) -> Picture:
    """A figure from its two files.

    Args:
        svg: as matplotlib writes it.
        png: the same figure.
        alt: what it shows, in words, as HTML text in double quotes may have it.
    """
    size = svg.stat().st_size
    if size <= LARGEST_BYTES:
        return Picture(inline(svg.read_text(encoding="utf-8"), svg.stem, alt))
    data = base64.b64encode(png.read_bytes()).decode()
    markup = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    return Picture(markup, f"A PNG, as the SVG has {size / 1e6:.1f} MB.")


def inline(text: str, name: str, alt: str) -> str:
    """The text of an SVG file as an element of a page.

    Several stand in one page: an ``id`` that is referred to begins with the figure's name, others are dropped; so are
    what only a file of its own needs, and the style of all elements, which would be that of the page's.
    """
    body = text[text.index("<svg") :]
    head, _, body = body.partition(">")
    body = re.sub(r"<metadata>.*?</metadata>\s*|<style[^>]*>.*?</style>\s*", "", body, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))

    def own(found: re.Match[str]) -> str:
        return f' id="{name}-{found[1]}"' if found[1] in used else ""

    body = re.sub(r' id="([^"]*)"', own, body)
    body = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", body).replace("xlink:href", "href")
    body = body.replace("'DejaVu Sans'", FONTS)
    # The layout of the file means nothing, but in texts there is none.
    body = re.sub(r">\s*\n\s*<", "><", body)
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box, f"{name}: an SVG without viewBox"
    width, height = (round(float(points) * INCH / 72) for points in box[1].split()[2:])
    return f'<svg role="img" aria-label="{alt}" viewBox="{box[1]}" width="{width}" height="{height}">{body.strip()}'
