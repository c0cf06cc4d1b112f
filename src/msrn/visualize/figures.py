"""Save matplotlib figures: as files, or as SVG inside a web page."""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from msrn.errors import ConfigError
from msrn.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURE_SUFFIXES", "HALO", "inline_svg", "write_figure"]

FIGURE_SUFFIXES = (".svg", ".png", ".pdf")

HALO = "halo"
"""``gid`` of artists that only separate a text from what is behind it; ``inline_svg`` leaves them out."""

log = logging.getLogger(__name__)


def write_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Save a figure as ``.svg``, ``.png`` or ``.pdf``, atomically; missing folders are created.

    Logs a warning with the number of letters that the font does not have.

    Raises:
        ConfigError: another suffix.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in FIGURE_SUFFIXES:
        raise ConfigError(f"expected a file name with .svg, .png or .pdf, got {file.name!r}", "--draw", "graph.svg")
    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[kind]
    with (
        atomic_path(file, parents=True) as partial,
        _searchable_svg(),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        figure.savefig(partial, format=kind[1:], dpi=160, metadata=metadata)
    missing = {str(warning.message) for warning in caught if "missing from" in str(warning.message)}
    if missing and kind != ".svg":
        log.warning("the font of the figure lacks %d letters; an .svg file shows them", len(missing))
    for warning in caught:
        if str(warning.message) not in missing:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def inline_svg(
    figure: Figure, *, name: str, description: str, colours: Mapping[str, str], titles: Mapping[str, Sequence[str]]
) -> str:
    """A figure as an ``<svg>`` element for a web page: transparent, with text as text in the font of the page.

    It is shown at its own size if there is room, and never so small that a point is less than a pixel.

    Args:
        figure: the figure.
        name: prefix of the ids inside the element; different for each figure of a page.
        description: for readers who do not see the figure.
        colours: from a colour of the figure (``#rrggbb``) to one of the page, such as ``currentColor``.
        titles: from the ``gid`` of an artist to one text per path that it draws; browsers show it under the pointer.
    """
    out = io.StringIO()
    with _searchable_svg(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing from")  # the page has fonts of its own
        figure.savefig(out, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(out.getvalue())
    _without_namespaces(root)
    # The style sheet would apply to the whole page.
    _remove(root, lambda element: element.tag in {"metadata", "style"} or element.get("id") == HALO)
    for element in root.iter():
        if (texts := titles.get(element.get("id", ""))) is not None:
            paths = element.findall("path")
            for path, text in zip(paths, texts, strict=True):
                ElementTree.SubElement(path, "title").text = text
    _rename_ids(root, name)
    for element in root.iter():
        if style := element.get("style"):
            element.set("style", _page_style(style, colours))
        if outline := element.get("d"):
            element.set("d", re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}", outline).replace("\n", ""))
    width = float(root.get("viewBox", "").split()[2])
    root.attrib.pop("height")
    root.attrib |= {
        "width": f"{width * 4 / 3:.0f}",
        "role": "img",
        "aria-label": description,
        "style": f"min-width: {width:.0f}px; stroke-linejoin: round",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _searchable_svg() -> AbstractContextManager[None]:
    """Matplotlib's options: text stays text, which can be searched, and the same figure gives the same file."""
    import matplotlib as mpl

    return mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "msrn"})


def _without_namespaces(root: ElementTree.Element) -> None:
    """Write ``svg:path`` as ``path`` and ``xlink:href`` as ``href``: HTML knows both without a namespace."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in [key for key in element.attrib if "}" in key]:
            element.set(key.rpartition("}")[2], element.attrib.pop(key))


def _remove(root: ElementTree.Element, unwanted: Callable[[ElementTree.Element], bool]) -> None:
    for parent in list(root.iter()):
        for child in [child for child in parent if unwanted(child)]:
            parent.remove(child)


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    """Remove the ids that nothing refers to, and put a prefix before the others."""
    used = {
        reference
        for element in root.iter()
        for value in element.attrib.values()
        for reference in re.findall(r"^#(\S+)$|url\(#([^)]+)\)", value)
        for reference in reference
        if reference
    }
    for element in root.iter():
        if (own := element.attrib.pop("id", None)) in used:
            element.set("id", f"{name}-{own}")
        for key, value in element.attrib.items():
            element.set(key, re.sub(r"(^#|url\(#)", rf"\1{name}-", value) if "style" not in key else value)


def _page_style(style: str, colours: Mapping[str, str]) -> str:
    """CSS declarations with the colours of the page, and without a font family, so that the text inherits one."""
    declarations = []
    for declaration in style.split("; "):
        property_, _, value = declaration.partition(": ")
        if property_ == "font":  # in older versions of matplotlib, such as: bold 14px 'DejaVu Sans', sans-serif
            *weight, size = re.split(r"(?<=px) ", value)[0].split()
            declarations += [f"font-size: {size}", *(f"font-weight: {each}" for each in weight)]
        elif property_ != "font-family":
            declarations.append(f"{property_}: {colours.get(value, value)}")
    return "; ".join(declarations)
