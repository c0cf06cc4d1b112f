"""Parse the cells of a row: blank cells, class numbers, and the names of several labels in one cell."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from msrn.errors import Problem
from msrn.files import parse_json

__all__ = [
    "NO_LABEL",
    "class_names",
    "delimiter_of",
    "is_blank",
    "items_of",
    "parted",
    "python_literal",
    "quoted",
    "split_tags",
]

UNKNOWN_CELLS = {"", "?", "nan", "na", "n/a", "#n/a", "<na>", "null"}
NO_LABEL = "-"
MARKS = ("|", ";", ",")
MAX_CELL = 100_000

_ENTITY = re.compile(r"&(#\d+|#x[0-9a-f]+|[a-z]+[0-9]*);", re.IGNORECASE)
_NUMBERS = re.compile(r"\d+(\s+\d+)*")
_QUOTED = r"""(?:'[^']*'|"[^"]*")"""
_NUMPY_LIST = re.compile(rf"\[\s*{_QUOTED}(?:\s+{_QUOTED})+\s*\]")


def is_blank(cell: Any) -> bool:
    """Whether a cell states nothing."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return True
    return isinstance(cell, str) and cell.strip().lower() in UNKNOWN_CELLS


def items_of(cell: Any) -> list[Any] | None:
    """The items of a cell that is a list, also one in the text form of JSON, Python or NumPy; None for other cells.

    ``{"choices": [...]}`` of Label Studio is the list of its choices. No code in a cell is run.

    Raises:
        ValueError: the cell starts and ends as a list does, but cannot be read as one.
    """
    if isinstance(cell, list):
        return cell
    if isinstance(cell, dict):
        return _choices(cell)
    text = str(cell).strip()
    if text[:1] + text[-1:] not in {"[]", "()", "{}"} or len(text) > MAX_CELL:
        if text[:2] in {"['", '["'} or text[-2:] in {"']", '"]'}:
            raise ValueError(f"expected a list of names, got {text[:80]!r}, which lacks a bracket")
        return None
    if _NUMPY_LIST.fullmatch(text):
        return [item[1:-1] for item in re.findall(_QUOTED, text)]
    value = _literal(text)
    if isinstance(value, dict):
        return _choices(value)
    if isinstance(value, list | tuple | set):
        return sorted(value) if isinstance(value, set) and all(isinstance(v, str) for v in value) else list(value)
    inner = text[1:-1]
    if text[0] != "[" or set(inner) & set("[]{}"):
        return None
    if set(inner) & set("'\""):
        raise ValueError(f"expected a list of names, got {text[:80]!r}, which is not JSON or Python")
    return [item.strip() for item in inner.split(",") if item.strip()]


def python_literal(text: str) -> Any:
    """The value of a Python literal of up to ``MAX_CELL`` characters; None if it is none. No code in it is run."""
    if len(text) > MAX_CELL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of odd escapes while it parses
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def parted(text: str, delimiter: str) -> list[str]:
    """The parts of a text between delimiters, without blanks around them. Entities such as ``&amp;`` are not cut."""
    if delimiter == " ":
        return text.split()
    masked = _ENTITY.sub(r"&\1" + "\0", text) if delimiter == ";" else text
    parts = [part.strip() for part in masked.split(delimiter)]
    return [part.replace("\0", ";") for part in parts] if masked is not text else parts


def delimiter_of(cells: Iterable[Any]) -> tuple[str, str]:
    """The delimiter that most cells share, and a description of the evidence.

    Of marks in equally many cells, the first of ``|``, ``;`` and ``,`` is taken. Without such a mark, a blank parts
    cells if all of them hold whole numbers, or if each of its parts is the whole of another cell.
    """
    texts = [cell for cell in cells if isinstance(cell, str) and not is_blank(cell) and not _is_list(cell)]
    plain = [_ENTITY.sub("", text) for text in texts]
    counts = {mark: sum(mark in text for text in plain) for mark in MARKS}
    best = max(MARKS, key=lambda mark: counts[mark])
    if counts[best]:
        others = [f"{mark!r} occurs in {counts[mark]:,}" for mark in MARKS if mark != best and counts[mark]]
        note = f"separated by {best!r} in {counts[best]:,} of {len(texts):,} cells"
        return best, note + (f" ({', '.join(others)}; --data.reader.delimiter chooses)" if others else "")
    whole = {text.strip() for text in texts}
    if any(" " in text for text in whole) and all(_NUMBERS.fullmatch(text) for text in whole):
        count = sum(len(text.split()) > 1 for text in texts)
        return " ", f"numbers separated by blanks in {count:,} of {len(texts):,} cells"
    several = [text.split() for text in whole if len(text.split()) > 1]
    if several and all(set(parts) <= whole for parts in several):
        count = sum(len(text.split()) > 1 for text in texts)
        return " ", f"separated by blanks in {count:,} of {len(texts):,} cells"
    return "|", ""


def class_names(cell: Any, names: Sequence[str] | None, where: str, problems: list[Problem]) -> Any:
    """A cell of one or several class numbers as names; other cells unchanged. A single -1 means not labelled: None."""
    numbers = cell if isinstance(cell, list) else [cell]
    if not numbers or not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        return cell
    if cell == -1:
        return None
    if names is None or not all(0 <= number < len(names) for number in numbers):
        expected = f"numbers from 0 to {len(names) - 1}" if names else "names, because no class names are known"
        problems.append(Problem(f"expected {expected}, got {cell!r}", where))
        return []
    return [names[number] for number in numbers]


def split_tags(text: str, delimiter: str) -> list[str] | None:
    """The tags of a text, on lines and between delimiters, each once; None if there are none."""
    # Not splitlines(): it also breaks at characters that a name may hold (U+0085, U+2028).
    lines = text.replace("\r", "\n").split("\n")
    tags = dict.fromkeys(tag for line in lines for tag in parted(line, delimiter))
    return [tag for tag in tags if tag] or None


def quoted(values: Iterable[Any], *, most: int = 3) -> str:
    """The most frequent of some cells, as a message lists them."""
    found = Counter(repr(value)[:60] for value in values)
    shown = ", ".join(text for text, _ in found.most_common(most))
    return shown + (" and others" if len(found) > most else "")


def _is_list(text: str) -> bool:
    return text.strip()[:1] + text.strip()[-1:] in {"[]", "{}", "()"}


def _choices(value: dict[str, Any]) -> list[Any] | None:
    choices = value.get("choices")
    return choices if isinstance(choices, list) else None


def _literal(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return python_literal(text)
