"""A matplotlib figure as SVG inside a page: its colours and text are the page's.

A figure is drawn in stand-in colours. They become variables of the style sheet, so that one drawing
serves the light and the dark theme. Style attributes become plain ones, which a page that allows no
inline styles still applies, and names get a prefix, so that figures do not share them.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Stand-ins: text and axes, grid lines, the page's background.
INK, GRID, PAPER = "#010101", "#020202", "#030303"
#: How many colours the style sheet has for series, ``--k0`` and so on.
COLORS = 8
_VARIABLES = {INK: "currentColor", GRID: "var(--grid)", PAPER: "var(--surface)"} | {
    f"#0400{i:02x}": f"var(--k{i})" for i in range(COLORS)
}
#: Shapes that tell series apart where colours do not, for matplotlib, and the same as letters.
MARKERS, LETTERS = "os^DvPX*", "●■▲◆▼✚✖★"
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_LONGEST = 28
#: Pixels of the page for a point of the figure.
_SCALE = 1.25
#: Pixels from which a plot is a wide one, which needs more room to be read.
_WIDE = 760
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True, "axes.edgecolor": INK, "axes.facecolor": "none", "axes.grid": True,
    "axes.labelcolor": INK, "axes.linewidth": 0.8, "axes.spines.right": False,
    "axes.spines.top": False, "axes.titlecolor": INK, "axes.titlelocation": "left",
    "axes.titlesize": 10, "figure.facecolor": "none", "font.family": "DejaVu Sans", "font.size": 9,
    "grid.color": GRID, "grid.linewidth": 0.8, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "soar-bench",  # the same figure, the same bytes
    "text.parse_math": False,  # a name with dollar signs is a name
}  # fmt: skip


def series_color(number: int) -> str:
    """Return the stand-in colour of a series."""
    return f"#0400{number % COLORS:02x}"


def series_marker(number: int) -> str:
    """Return the shape of a series."""
    return MARKERS[number % len(MARKERS)]


def series_numbers(names: Iterable[str], taken: Mapping[str, int]) -> dict[str, int]:
    """Return a series for each name: its number in ``taken``, or the lowest that is free."""
    free = (number for number in count() if number not in taken.values())
    return {name: taken[name] if name in taken else next(free) for name in dict.fromkeys(names)}


def label(text: str, longest: int = _LONGEST) -> str:
    """Return text from outside on one line, without control characters, not too long."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)
    kept = " ".join(kept.split())
    return kept if len(kept) <= longest else kept[: longest - 1] + "…"


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure, in inches, that looks like the page if it is drawn in the block."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        yield Figure((width, height), layout="constrained")


def to_svg(
    figure: Figure, prefix: str, says: str, titles: Mapping[str, str] | None = None
) -> Markup:
    """Return the figure as an ``<svg>`` element.

    ``prefix`` is unique in the page, ``says`` is read out in place of the picture, and ``titles``
    by the ``gid`` of an artist shows when a pointer rests on it.
    """
    titles = titles or {}
    root = ElementTree.fromstring(_drawn(figure).encode("utf-8"))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    used = {m for e in root.iter() for v in e.attrib.values() for m in _REFERENCE.findall(v)}
    used |= {e.get(f"{{{_XLINK}}}href", "")[1:] for e in root.iter()}
    for element in root.iter():
        name = element.attrib.pop("id", "")
        _plain_style(element)
        for key, value in list(element.attrib.items()):
            value = _VARIABLES.get(value.lower(), value)
            element.set(key, _REFERENCE.sub(rf"url(#{prefix}-\1)", value))
        if target_name := element.attrib.pop(f"{{{_XLINK}}}href", ""):
            element.set("href", f"#{prefix}-{target_name[1:]}")
        if name and name in used:
            element.set("id", f"{prefix}-{name}")
        if name in titles:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = "".join(c for c in titles[name] if c.isprintable())
            element.insert(0, title)
    width = float(root.get("width", "0").removesuffix("pt"))
    for key in ("height", "version"):
        root.attrib.pop(key, None)
    root.set("width", f"{_SCALE * width:.0f}")  # the style sheet narrows it where it must
    root.set("role", "img")
    root.set("aria-label", "".join(c if c.isprintable() else " " for c in says))
    root.set("class", "plot wide" if _SCALE * width > _WIDE else "plot")
    ElementTree.register_namespace("", _SVG)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _drawn(figure: Figure) -> str:
    """Return matplotlib's SVG, as ``savefig`` writes it, which draws once more to lay out."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    canvas, layout = FigureCanvasSVG(figure), figure.get_layout_engine()
    figure.dpi = canvas.fixed_dpi
    target = io.StringIO()
    with warnings.catch_warnings():  # the browser has letters that the font for measuring lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        if layout is not None:
            layout.execute(figure)
        figure.set_layout_engine("none")
        canvas.print_svg(target, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    return target.getvalue()


def _plain_style(element: ElementTree.Element) -> None:
    """Turn ``style="fill: none"`` into ``fill="none"``; a font in one word becomes its parts."""
    for part in element.attrib.pop("style", "").split(";"):
        key, _, value = (word.strip() for word in part.partition(":"))
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            key, value = "font-size", size[1] if size else ""
        if key and value and key != "font-family":
            element.set(key, value.removesuffix("px"))
