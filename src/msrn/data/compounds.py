"""Find labels that look like several labels, or like remains of a list, an entity or a quotation."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["compound_labels", "means_none"]

_PARTS = re.compile(r"\s*[|;,/+&]\s*|\s+and\s+|\s+")
_REMAINS = re.compile(r"""^[\['"{(].*|.*[\]'"})]$|.*&(#\d+|#x[0-9a-f]+|[a-z]+[0-9]*);.*""", re.IGNORECASE | re.DOTALL)
_NONE = re.compile(r"no[ _-]?(findings?|labels?|tags?|objects?|class|classes)|none|nothing|background", re.IGNORECASE)


def compound_labels(names: Sequence[str]) -> dict[str, str]:
    """Names that look like more than one label, with the reason.

    A name is one if it starts or ends with a bracket or quotation mark that has no partner in it, holds an entity such
    as ``&amp;``, holds ``|`` or ``;``, or consists of parts that are all labels; or if its words are all the words of
    a longer name, or the same words in another order, of which there must be several such names.

    Example:
        >>> compound_labels(["sea", "boat", "sea, boat", "traffic light"])
        {'sea, boat': 'made of the labels sea and boat'}
    """
    known = {name.casefold() for name in names}
    found: dict[str, str] = {}
    for name in names:
        pieces = [part for part in _PARTS.split(name) if part]
        if len(pieces) > 1 and all(part.casefold() in known for part in pieces):
            found[name] = f"made of the labels {' and '.join(pieces)}"
        elif _REMAINS.fullmatch(name) and not _balanced(name):
            found[name] = "holds a bracket, a quotation mark or an entity"
        elif re.search(r"[|;]", name) and not re.search(r"&\w+;|&#\w+;", name):
            found[name] = "holds a delimiter"
    words = {name: frozenset(re.split(r"[\s,]+", name.casefold())) for name in names if name not in found}
    several = {name: parts for name, parts in words.items() if len(parts) > 1}
    holders: dict[str, list[str]] = {}
    for name, parts in several.items():
        for part in parts:
            holders.setdefault(part, []).append(name)
    mixed = {}
    for name, parts in several.items():
        candidates = min((holders[part] for part in parts), key=len)
        other = next((other for other in candidates if other != name and parts <= several[other]), None)
        if other is not None:
            mixed[name] = other
            mixed.setdefault(other, name)
    if len(mixed) > 1 or (mixed and any(len(parts) > 2 for parts in several.values())):
        found |= {name: f"shares its words with {other!r}" for name, other in mixed.items()}
    return found


def means_none(name: str) -> bool:
    """Whether a label names the absence of the other labels, such as ``No Finding``."""
    return _NONE.fullmatch(name.strip()) is not None


def _balanced(name: str) -> bool:
    """Whether brackets and quotation marks are in pairs, and none stands at both ends; entities are never balanced."""
    if re.search(r"&(#\w+|[a-zA-Z]+[0-9]*);", name) or (name[0] in "['\"{" and name[-1] in "]'\"}"):
        return False
    return all(name.count(one) == name.count(other) for one, other in ("()", "[]", "{}")) and not (
        {"'", '"'} & {name[0], name[-1]}
    )
