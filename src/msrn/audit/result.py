"""The result of ``msrn data check``: a value that is written as JSON and read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from msrn.audit.issues import Issue, Severity
from msrn.errors import DataError, Problem

__all__ = ["FORMAT_VERSION", "CheckResult", "CheckedSplit"]

FORMAT_VERSION = 1
"""Of the JSON: increased when a field changes its meaning or is removed."""


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
        return {"format_version": FORMAT_VERSION, **tree, "counts": self.counts, "issues": issues}

    @classmethod
    def from_json(cls, tree: Any, where: str = "") -> CheckResult:
        """The result of a tree from ``to_json``; the counts are computed again.

        Args:
            tree: the tree.
            where: the file it was read from, for messages.

        Raises:
            DataError: the tree is of another format version, or a value is missing or of the wrong type.
        """
        version = tree.get("format_version") if isinstance(tree, Mapping) else None
        if version != FORMAT_VERSION:
            got = "none" if version is None else version
            hint = "run msrn data check --json again"
            raise DataError(f"expected a check of format version {FORMAT_VERSION}, got {got}", where, hint)
        try:
            return _RESULT.validate_python(tree)
        except ValidationError as error:
            problems = [
                Problem(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}", where) for detail in error.errors()
            ]
            raise DataError.of(problems, "the result of the check is damaged") from None


_RESULT = TypeAdapter(CheckResult)
