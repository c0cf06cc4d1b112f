"""Which label is which column?

Two parts of a program that order labels differently (alphabetical here, by category id there) go wrong without a
word. So columns are bound by **name** everywhere, and whatever is saved carries the names.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from msrn.errors import LabelError, MsrnError, Problem, did_you_mean, reason

__all__ = ["LabelSpace"]


class LabelSpace:
    """Ordered unique label names; column ``i`` of every target, score and graph belongs to ``names[i]``.

    Immutable, hashable, equal when the names are equal in the same order. Names are kept as they are given (a blank
    around them is a mistake and is refused).

    Raises:
        LabelError: no names at all, or a name that is empty, repeated, not a text, has blanks around it or holds a
            line break; all of them at once.

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
                f"label names must be a list of texts, got the single text {names!r}", hint=f"write [{names!r}]"
            )
        given = tuple(names)
        problems = _problems(given)
        if problems:
            raise LabelError.of(problems, f"the label set of {len(given):,} names is not usable")
        object.__setattr__(self, "_names", tuple(str(name) for name in given))
        object.__setattr__(self, "_columns", {name: column for column, name in enumerate(self._names)})
        object.__setattr__(self, "_digest", hashlib.sha256("\n".join(self._names).encode("utf-8")).hexdigest())

    @property
    def names(self) -> tuple[str, ...]:
        """All names in column order."""
        return self._names

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the names in order, joined by line feeds, in UTF-8."""
        return self._digest

    def column(self, name: str) -> int:
        """The column of one label.

        Raises:
            LabelError: the name is unknown; the hint has the nearest known one.
        """
        try:
            return self._columns[name]
        except KeyError:
            raise LabelError(*self._unknown(name)) from None

    def columns(self, names: Iterable[str]) -> list[int]:
        """The columns of several labels, in the order asked for.

        Raises:
            LabelError: some names are unknown; each is listed, with the nearest known one.
        """
        asked = list(names)
        unknown = [name for name in dict.fromkeys(asked) if name not in self._columns]
        if unknown:
            problems = [Problem(*self._unknown(name)) for name in unknown]
            raise LabelError.of(problems, f"some labels are not among the {len(self):,} of the label set")
        return [self._columns[name] for name in asked]

    def encode(self, names: Iterable[str]) -> npt.NDArray[np.float32]:
        """A target ``(L,)``: 1 at the columns of ``names``, 0 elsewhere. Raises LabelError for unknown names."""
        target = np.zeros(len(self), dtype=np.float32)
        target[self.columns(names)] = 1.0
        return target

    def align(self, other: LabelSpace) -> npt.NDArray[np.intp]:
        """For each of our names its column in ``other``: ``theirs[..., ours.align(other_space)]`` is in our order.

        ``other`` may have more names than we do.

        Raises:
            LabelError: names of ours that ``other`` lacks, all of them.
        """
        return np.asarray(other.columns(self._names), dtype=np.intp)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> LabelSpace:
        """Names from a text file in UTF-8, one a line; a byte-order mark, CRLF and blank lines do no harm.

        Raises:
            LabelError: the file is missing, no UTF-8, or its names are empty or repeated.
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
        # Not splitlines(): it also breaks at rare characters (form feed, U+2028) that a name may hold.
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        names = [line.strip() for line in lines if line.strip()]
        try:
            return cls(names)
        except MsrnError as error:
            problems = [
                Problem(p.message, f"{file}, {p.where}" if p.where else str(file), p.hint) for p in error.problems
            ]
            raise LabelError.of(problems, f"the label file {file} is not usable") from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write one name a line, UTF-8; the file appears whole or not at all."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            partial.write_text("\n".join(self._names) + "\n", encoding="utf-8", newline="\n")
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)

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
        raise AttributeError(f"a LabelSpace is immutable; make a new one instead of setting {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a LabelSpace is immutable; {name!r} cannot be deleted")

    def __reduce__(self) -> tuple[type[LabelSpace], tuple[tuple[str, ...]]]:
        return LabelSpace, (self._names,)

    def _unknown(self, name: str) -> tuple[str, str, str]:
        near = did_you_mean(name, self._names) if isinstance(name, str) else ""
        size = f"The label set has {len(self):,} names" + (f": {', '.join(self._names)}." if len(self) <= 10 else ".")
        return f"label {name!r} is not in the label set", "", f"{near} {size}".strip()


def _problems(names: tuple[object, ...]) -> list[Problem]:
    if not names:
        return [Problem("a label set needs at least one name, got none")]
    problems = []
    for number, name in enumerate(names, start=1):
        where = f"name {number:,} of {len(names):,}"
        if not isinstance(name, str):
            problems.append(Problem(f"a label name must be a text, got {name!r}", where))
        elif not name.strip():
            problems.append(Problem(f"a label name is blank ({name!r})", where))
        elif name != name.strip():
            problems.append(Problem(f"label name {name!r} has blanks around it", where, f"write {name.strip()!r}"))
        elif "\n" in name or "\r" in name:
            problems.append(Problem(f"label name {name!r} holds a line break", where))
    for name, count in Counter(name for name in names if isinstance(name, str) and name.strip()).items():
        if count > 1:
            places = [str(number) for number, other in enumerate(names, start=1) if other == name]
            where = f"names {', '.join(places[:8])}{', ...' if count > 8 else ''} of {len(names):,}"
            problems.append(Problem(f"label name {name!r} is given {count:,} times", where))
    return problems
