"""The exception tree, and helpers for error messages.

    MsrnError
    ├── ConfigError        a setting is out of bounds, unknown or contradicts another
    ├── LabelError         label names, label embeddings or a label graph do not match
    ├── DataError          a data set, table, list or image is broken
    ├── ShapeError         the sizes of arrays or tensors do not match
    ├── WeightsError       a checkpoint or pretrained weights do not match the model
    ├── BundleError        a bundle or run folder is incomplete, damaged or of another kind
    ├── DependencyError    an optional package is missing
    └── TrainingError      training cannot continue (non-finite loss)

Every error has one or more problems. A problem states what was expected and what was found (``message``), where
(``where``: file and line, key, shape) and what to do (``hint``). All problems of one input are raised together.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "MAX_HINTS",
    "BundleError",
    "ConfigError",
    "DataError",
    "DependencyError",
    "LabelError",
    "MsrnError",
    "Problem",
    "ShapeError",
    "TrainingError",
    "WeightsError",
    "did_you_mean",
    "printable",
    "reason",
    "write_hint",
]

MAX_KINDS, MAX_ALIKE = 30, 10
"""Kinds of problems that a message lists, and problems of each kind: those that differ only in names and numbers."""

MAX_CHARACTERS, MAX_TOGETHER = 4_000, 40_000
"""What is printed at most: of a message, place or hint; and of all problems, of which the rest is counted."""

MAX_HINTS = 50
"""Problems of one kind for which a hint need be sought: more than are printed."""

_MIN_SIMILARITY = 60  # per cent, of rapidfuzz's ratio: twice the common letters in order, of all letters


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: what it is, where, and what to do about it."""

    message: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        """The problem as it is printed: what a terminal could act on is escaped, and excessive length cut."""
        lines = [_shown(self.message)]
        if self.where:
            lines.append(f"  at: {_shown(self.where)}")
        if self.hint:
            lines.append(f"  hint: {_shown(self.hint)}")
        return "\n".join(lines)


class MsrnError(Exception):
    """An error that the user can fix. ``str(error)`` is ready to print; ``error.problems`` holds the parts."""

    def __init__(self, message: str, where: str = "", hint: str = "", *, problems: Sequence[Problem] = ()) -> None:
        self.message, self.where, self.hint = message, where, hint
        self.problems: tuple[Problem, ...] = tuple(problems) or (Problem(message, where, hint),)
        super().__init__(message)

    @classmethod
    def of(cls, problems: Sequence[Problem], summary: str) -> MsrnError:
        """One error for several problems; a single problem replaces the summary."""
        if len(problems) == 1:
            return cls(problems[0].message, problems[0].where, problems[0].hint)
        return cls(summary, problems=problems)

    def __str__(self) -> str:
        head = str(Problem(self.message, self.where, self.hint))
        if len(self.problems) == 1:
            return head
        kinds: dict[tuple[str, str], list[Problem]] = {}
        for problem in self.problems:
            kinds.setdefault((_kind(problem.message), _kind(problem.hint)), []).append(problem)
        lines: list[str] = []
        counted = 0
        for alike in list(kinds.values())[:MAX_KINDS]:
            if sum(map(len, lines)) < MAX_TOGETHER:
                lines += [f"- {problem}".replace("\n", "\n  ") for problem in alike[:MAX_ALIKE]]
                lines += [f"- and {len(alike) - MAX_ALIKE:,} more like this"] if len(alike) > MAX_ALIKE else []
                counted += len(alike)
        if more := len(self.problems) - counted:
            lines.append(f"- and {more:,} more of other kinds")
        body = "\n".join(lines)
        return f"{head}: {len(self.problems):,} problems\n{body}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.where, self.hint, self.problems)


def _kind(text: str) -> str:
    """The start of a message, without what it names and counts."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\{.*\}|\d+", "", text[:400])


def _rebuild(kind: type[MsrnError], message: str, where: str, hint: str, problems: tuple[Problem, ...]) -> MsrnError:
    return kind(message, where, hint, problems=problems)


class ConfigError(MsrnError):
    """A setting is out of bounds, unknown, or contradicts another."""


class LabelError(MsrnError):
    """Label names, label embeddings or a label graph do not match."""


class DataError(MsrnError):
    """A data set, table, list or image is broken."""


class ShapeError(MsrnError):
    """The sizes of arrays or tensors do not match."""


class WeightsError(MsrnError):
    """A checkpoint or pretrained weights do not match the model."""


class BundleError(MsrnError):
    """A bundle or a run folder is incomplete, damaged, or of another kind."""


class DependencyError(MsrnError):
    """An optional package is missing."""


class TrainingError(MsrnError):
    """Training cannot continue."""


def reason(error: Exception) -> str:
    """The message of an error, without the error number and path of the operating system's errors."""
    return str(getattr(error, "strerror", None) or error)


def write_hint(error: OSError, then: str) -> str:
    """What to do about a file that cannot be written, followed by ``then``; empty where only the reason is known."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            first = "free space there"
        case errno.EFBIG:
            first = "raise the limit on the size of files (ulimit -f)"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            first = "make it writable, or choose another place"
        case _:
            return ""
    return f"{first}, then {then}"


def printable(text: str) -> str:
    """A text with everything escaped that is not text or that a terminal could act on."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _shown(text: str) -> str:
    more = len(text) - MAX_CHARACTERS
    cut = text if more <= 0 else f"{text[:MAX_CHARACTERS]} ... and {more:,} more characters"
    return "\n".join(printable(line) for line in cut.split("\n"))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'sofa'?"``, or an empty string if no known name is similar.

    Case, and the choice among ``_``, ``-``, ``.`` and space, make no difference. A name without a dot is also compared
    with the last parts of dotted names, so ``lr`` finds ``optim.lr``. Initials count too: ``learning_rate``
    finds ``lr``.
    """
    from rapidfuzz import fuzz, process  # imported here: 70 ms, needed only once something is wrong

    choices = list(known)
    words = _plain(name.rpartition(".")[2]).split()
    initials = "".join(word[0] for word in words)
    if short := [each for each in choices if len(words) > 1 and each.rpartition(".")[2] == initials]:
        return f"did you mean {short[0]!r}?"
    found = process.extractOne(name, choices, scorer=fuzz.ratio, processor=_plain, score_cutoff=_MIN_SIMILARITY)
    if not found and "." not in name:
        last = [choice.rpartition(".")[2] for choice in choices]
        if near := process.extractOne(name, last, scorer=fuzz.ratio, processor=_plain, score_cutoff=_MIN_SIMILARITY):
            return f"did you mean {choices[near[2]]!r}?"
    return f"did you mean {found[0]!r}?" if found else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]+", " ", name.casefold()).strip()
