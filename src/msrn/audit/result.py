"""The result of ``msrn data check``: a value that is written as JSON and read back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from msrn.audit.issues import Issue, Severity
from msrn.json_results import ResultFormat

__all__ = ["FORMAT", "CheckResult", "CheckedSplit"]

FORMAT = ResultFormat("a check", 1, "run msrn data check --json again")
"""The version is increased when a field changes its meaning or is removed."""


@dataclass(frozen=True, slots=True)
class CheckedSplit:
    """A split that was checked: its name, its source, numbers of images and labels, and its rank.

    The rank is 0 for a split to train on, 1 for validation and 2 for testing.
    """

    name: str
    source: str
    images: int
    labels: int
    rank: int


@dataclass(frozen=True, slots=True)
class CheckResult:
    """All issues of a data set.

    Fields: near_bits, bits in which the hashes of near duplicates may differ (None: not searched for); splits; labels,
    the number of different labels in them; issues, in the order of ``CODES``.
    """

    near_bits: int | None
    splits: tuple[CheckedSplit, ...]
    labels: int
    issues: tuple[Issue, ...]

    @property
    def counts(self) -> dict[Severity, int]:
        """Number of issues by severity."""
        found = Counter(each.severity for each in self.issues)
        severities: tuple[Severity, ...] = ("error", "warning", "note")
        return {severity: found[severity] for severity in severities}

    def to_json(self) -> dict[str, Any]:
        """A tree of plain values for ``json.dump``, with ``format_version``; the guide describes its fields."""
        tree = _RESULT.dump_python(self)
        issues = tree.pop("issues")
        return {"format_version": FORMAT.version, **tree, "counts": self.counts, "issues": issues}

    @classmethod
    def from_json(cls, tree: Any, where: str = "") -> CheckResult:
        """The result of a tree from ``to_json``; the counts are computed again.

        Args:
            tree: the tree.
            where: the file it was read from, for messages.

        Raises:
            DataError: the tree is of another format version, or a value is missing or of the wrong type.
        """
        return FORMAT.read(_RESULT, FORMAT.require(tree, where), where)


_RESULT = TypeAdapter(CheckResult)
