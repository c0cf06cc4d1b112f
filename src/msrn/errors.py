"""Which things can go wrong, and how are they said?

    MsrnError
    ├── ConfigError        a setting is out of bounds, unknown or contradicts another
    ├── LabelError         label names, word vectors or a label graph do not fit
    ├── DataError          a data set, table, list or picture is broken
    ├── ShapeError         arrays or tensors whose sizes do not fit together
    ├── WeightsError       a checkpoint or pretrained weights do not fit the model
    ├── BundleError        a bundle or run folder is incomplete or of another kind
    ├── DependencyError    an optional package is needed and missing
    └── TrainingError      training cannot go on (non-finite loss)

Every error holds one or more problems. A problem says what was expected and what came (``message``), where
(``where``: file and line, key, shape) and what to do (``hint``). All problems of one input are raised together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
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
    "reason",
]

MAX_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, where, and what to do about it."""

    message: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        lines = [self.message]
        if self.where:
            lines.append(f"  at: {self.where}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class MsrnError(Exception):
    """A mistake the user can mend. ``str(error)`` is ready to print; ``error.problems`` holds the parts."""

    def __init__(self, message: str, where: str = "", hint: str = "", *, problems: Sequence[Problem] = ()) -> None:
        self.message, self.where, self.hint = message, where, hint
        self.problems: tuple[Problem, ...] = tuple(problems) or (Problem(message, where, hint),)
        super().__init__(message)

    @classmethod
    def of(cls, problems: Sequence[Problem], summary: str) -> MsrnError:
        """One error from several problems; a single problem is raised as itself, without the summary."""
        if len(problems) == 1:
            return cls(problems[0].message, problems[0].where, problems[0].hint)
        return cls(summary, problems=problems)

    def __str__(self) -> str:
        head = str(Problem(self.message, self.where, self.hint))
        if len(self.problems) == 1:
            return head
        shown = [str(problem).replace("\n", "\n  ") for problem in self.problems[:MAX_SHOWN]]
        body = "\n".join(f"- {text}" for text in shown)
        more = len(self.problems) - len(shown)
        tail = f"\n- and {more:,} more of the same kind" if more else ""
        return f"{head}: {len(self.problems):,} problems\n{body}{tail}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.where, self.hint, self.problems)


def _rebuild(kind: type[MsrnError], message: str, where: str, hint: str, problems: tuple[Problem, ...]) -> MsrnError:
    return kind(message, where, hint, problems=problems)


class ConfigError(MsrnError):
    """A setting is out of bounds, unknown, or contradicts another."""


class LabelError(MsrnError):
    """Label names, word vectors or a label graph do not fit together."""


class DataError(MsrnError):
    """A data set, table, list or picture is broken."""


class ShapeError(MsrnError):
    """Arrays or tensors whose sizes do not fit together."""


class WeightsError(MsrnError):
    """A checkpoint or pretrained weights do not fit the model."""


class BundleError(MsrnError):
    """A bundle or a run folder is incomplete, damaged, or of another kind."""


class DependencyError(MsrnError):
    """An optional package is needed and not installed."""


class TrainingError(MsrnError):
    """Training cannot go on."""


def reason(error: Exception) -> str:
    """What went wrong, without the number and the path that the system's errors put around it."""
    return str(getattr(error, "strerror", None) or error)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'sofa'?"``, or an empty string when no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""
