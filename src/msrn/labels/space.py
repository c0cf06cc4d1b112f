"""Label names and their column order.

Two parts of a program that order labels differently (alphabetically, by category id) give wrong results without an
error. Columns are therefore bound by **name** everywhere, and every saved file carries the names.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from msrn.errors import MAX_HINTS, LabelError, MsrnError, Problem, did_you_mean, reason
from msrn.files import parse_json, write_atomically

__all__ = ["MAX_LABELS", "MAX_MATRIX_LABELS", "LabelSpace", "plain_name", "require_matrix", "same_names"]

MAX_LABELS = 100_000
"""Largest label set."""

MAX_MATRIX_LABELS = 20_000
"""Largest label set of a label graph, whose matrices ``(L, L)`` take 3.2 GB each then."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|^\ufeff")

_INVISIBLE = {ord(sign): "" for sign in "\u200b\u2060\ufeff"} | {ord("\u00a0"): " ", ord("\u202f"): " "}
"""Signs of no width, which nobody sees, and spaces that do not break a line."""


def plain_name(text: str) -> str:
    """A label name in the form in which names that look the same are the same: Unicode form NFC, no space around.

    Signs of no width are left out, and spaces that do not break a line are spaces.

    Example:
        >>> plain_name(" Ba\u0308r ") == "B\u00e4r"
        True
    """
    text = text.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text).translate(_INVISIBLE).strip()


def same_names(names: Iterable[str], labels: Iterable[str] | None) -> dict[str, str]:
    """Names that look the same as another one, and the one that stands for them.

    That is the name in ``labels``, or else the plain one of several. A name that only itself looks like is left out,
    whatever its form.

    Example:
        >>> same_names(["Ba\u0308r", "B\u00e4r", "cafe\u0301"], None) == {"Ba\u0308r": "B\u00e4r"}
        True
    """
    known = set(labels or ())
    stands = {plain_name(name): name for name in known if not name.isascii()}
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(plain_name(name), []).append(name)
    same: dict[str, str] = {}
    for plain, group in groups.items():
        chosen = plain if plain in known else stands.get(plain) or (plain if plain in group else group[0])
        if plain in known or plain in stands or len(group) > 1:
            same |= {name: chosen for name in group if name != chosen and name not in known}
    return same


class LabelSpace:
    """Ordered unique label names; column ``i`` of every target, score and graph belongs to ``names[i]``.

    Immutable and hashable; two spaces are equal when their names are equal in the same order. Names are kept as given;
    a name with spaces around it is an error.

    Raises:
        LabelError: there are no names or more than ``MAX_LABELS``; or a name is empty, repeated, not a string, has
            spaces around it, or holds a control character such as a line break, a lone surrogate or a byte order mark.
            All errors are reported together.

    Example:
        >>> labels = LabelSpace(["cat", "dog", "sofa"])
        >>> labels.column("dog"), labels.columns(["sofa", "cat"])
        (1, [2, 0])
    """

    __slots__ = ("_columns", "_digest", "_names")

    _columns: dict[str, int]
    _digest: str
    _names: tuple[str, ...]

    def __init__(self, names: Iterable[str]) -> None:
        if isinstance(names, str):
            raise LabelError(
                f"label names must be a list of strings, got the single string {names!r}", hint=f"write [{names!r}]"
            )
        given = tuple(names)
        problems = _problems(given)
        if problems:
            raise LabelError.of(problems, f"the label set of {len(given):,} names is invalid")
        object.__setattr__(self, "_names", tuple(str(name) for name in given))
        object.__setattr__(self, "_columns", {name: column for column, name in enumerate(self._names)})
        object.__setattr__(self, "_digest", hashlib.sha256("\n".join(self._names).encode("utf-8")).hexdigest())

    @property
    def names(self) -> tuple[str, ...]:
        """All names in column order."""
        return self._names

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the names in order, joined by line feeds and encoded as UTF-8."""
        return self._digest

    def column(self, name: str) -> int:
        """The column of one label.

        Raises:
            LabelError: the name is unknown; the hint names the nearest known one.
        """
        try:
            return self._columns[name]
        except KeyError:
            raise LabelError(*self._unknown(name)) from None

    def columns(self, names: Iterable[str]) -> list[int]:
        """The columns of several labels, in the order given.

        Raises:
            LabelError: names are unknown; each is listed with the nearest known one.
        """
        given = list(names)
        unknown = [name for name in dict.fromkeys(given) if name not in self._columns]
        if unknown:
            problems = [Problem(*self._unknown(name)) for name in unknown[:MAX_HINTS]]
            problems += [Problem(f"label {name!r} is not in the label set") for name in unknown[MAX_HINTS:]]
            raise LabelError.of(problems, f"some labels are not in the label set of {len(self):,} names")
        return [self._columns[name] for name in given]

    def encode(self, names: Iterable[str]) -> npt.NDArray[np.float32]:
        """A target ``(L,)``: 1 in the columns of ``names``, 0 elsewhere.

        Raises:
            LabelError: names are unknown.
        """
        target = np.zeros(len(self), dtype=np.float32)
        target[self.columns(names)] = 1.0
        return target

    def align(self, other: LabelSpace) -> npt.NDArray[np.intp]:
        """The column in ``other`` of each name: ``values[..., labels.align(other)]`` is in the order of ``labels``.

        ``other`` may have more names.

        Raises:
            LabelError: ``other`` lacks names; each is listed.
        """
        return np.asarray(other.columns(self._names), dtype=np.intp)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> LabelSpace:
        """Read names from a UTF-8 text file with one name per line.

        A byte-order mark, CRLF line ends and blank lines are accepted.

        Raises:
            LabelError: the file is missing or not UTF-8, or its names are invalid.
        """
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise LabelError(f"cannot read the label file: {reason(error)}", where=str(file)) from error
        except UnicodeDecodeError as error:
            raise LabelError(
                f"the label file is not UTF-8 text (byte {error.start:,})", str(file), "save it as UTF-8"
            ) from error
        # not splitlines(), which also splits at rare characters (form feed, U+2028) that a name may contain
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        names = [line.strip() for line in lines if line.strip()]
        _refuse_other_forms(text, file)
        try:
            return cls(names)
        except MsrnError as error:
            problems = [
                Problem(p.message, f"{file}, {p.where}" if p.where else str(file), p.hint) for p in error.problems
            ]
            raise LabelError.of(problems, f"the label file {file} is invalid") from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write one name per line in UTF-8, atomically."""
        write_atomically(path, "\n".join(self._names) + "\n", parents=True)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, column: int) -> str:
        return self._names[column]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __eq__(self, other: object) -> bool:
        return self._names == other._names if isinstance(other, LabelSpace) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._names)

    def __repr__(self) -> str:
        shown = ", ".join(repr(name) for name in self._names[:4])
        return f"LabelSpace([{shown}{', ...' if len(self) > 4 else ''}], {len(self):,} names, {self._digest[:8]})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a LabelSpace is immutable; create a new one instead of setting {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a LabelSpace is immutable; {name!r} cannot be deleted")

    def __reduce__(self) -> tuple[type[LabelSpace], tuple[tuple[str, ...]]]:
        return LabelSpace, (self._names,)

    def _unknown(self, name: str) -> tuple[str, str, str]:
        near = did_you_mean(name, self._names) if isinstance(name, str) else ""
        size = f"the label set has {len(self):,} names" + (f": {', '.join(self._names)}" if len(self) <= 10 else "")
        return f"label {name!r} is not in the label set", "", f"{near}; {size}" if near else size


def _refuse_other_forms(text: str, file: Path) -> None:
    """Refuse JSON and YAML, whose lines would pass for names."""
    try:
        is_json = isinstance(parse_json(text), list | dict)
    except ValueError:
        is_json = False
    if is_json or file.suffix.lower() in {".yaml", ".yml"}:
        hint = "write one label name a line into a text file"
        raise LabelError(f"expected a list of names, got {'JSON' if is_json else 'YAML'}", str(file), hint)


def require_matrix(count: int) -> None:
    """Refuse a label graph of too many labels before its matrices are made.

    Raises:
        LabelError: there are more than ``MAX_MATRIX_LABELS``.
    """
    if count > MAX_MATRIX_LABELS:
        message = f"expected at most {MAX_MATRIX_LABELS:,} labels in a label graph, got {count:,}"
        raise LabelError(message, hint="choose a head that reads none, such as --model.head csra")


def _problems(names: tuple[object, ...]) -> list[Problem]:
    if not names:
        return [Problem("a label set needs at least one name, got none")]
    if len(names) > MAX_LABELS:
        return [Problem(f"expected at most {MAX_LABELS:,} labels, got {len(names):,}", hint="is it the right file?")]
    problems = []
    for number, name in enumerate(names, start=1):
        where = f"name {number:,} of {len(names):,}"
        if not isinstance(name, str):
            problems.append(Problem(f"a label name must be a string, got {name!r}", where))
        elif not name.strip():
            problems.append(Problem(f"a label name is empty ({name!r})", where))
        elif name != name.strip():
            problems.append(Problem(f"label name {name!r} has spaces around it", where, f"write {name.strip()!r}"))
        elif _CONTROL.search(name):
            what = "a line break" if {"\n", "\r"} & set(name) else "a sign that is no text"
            problems.append(Problem(f"label name {name!r} contains {what}", where))
    places: dict[str, list[int]] = {}
    for number, name in enumerate(names, start=1):
        if isinstance(name, str) and name.strip():
            places.setdefault(name, []).append(number)
    for name, numbers in places.items():
        if len(numbers) > 1:
            listed = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
            where = f"names {listed} of {len(names):,}"
            problems.append(Problem(f"label name {name!r} is given {len(numbers):,} times", where))
    return problems
