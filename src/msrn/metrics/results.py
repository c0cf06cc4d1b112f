"""The results of an evaluation as values, and their JSON form.

Measures are fractions in [0, 1]; coverage error counts labels. An undefined measure is NaN here and ``null`` in JSON.
The JSON keys are the names that papers print; each stands beside its field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter

from msrn.json_results import ResultFormat

__all__ = [
    "FORMAT",
    "LabelMetrics",
    "LeftOut",
    "Measure",
    "MetricsProtocol",
    "MultilabelMetrics",
    "PrecisionRecallAverages",
]

FORMAT = ResultFormat("metrics", 1, "run msrn evaluate again")

Measure = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: None if math.isnan(value) else value),
]


@dataclass(frozen=True, slots=True)
class MetricsProtocol:
    """The choices that the numbers depend on, in words where a number does not suffice."""

    ap: Annotated[str, Field(alias="AP")]  # a key of AP_KINDS
    entries: str
    thresholds: float | str  # the one threshold, or "one per label"
    predicted: str
    class_averages: str
    counts_target: str
    k: int
    top_k: str
    top_k_always: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How much is left out: labels of mAP, AUROC and class averages, images without a known label, unknown entries."""

    mean_ap: Annotated[int, Field(alias="mAP")]
    auroc: Annotated[int, Field(alias="AUROC")]
    class_averages: int
    images: int
    entries: int


@dataclass(frozen=True, slots=True)
class PrecisionRecallAverages:
    """Precision, recall and F1 averaged over labels (class) and over all entries (overall).

    ``class_f1`` is the harmonic mean of ``class_precision`` and ``class_recall``; ``macro_f1`` the mean of the labels'
    F1.
    """

    class_precision: Annotated[Measure, Field(alias="CP")]
    class_recall: Annotated[Measure, Field(alias="CR")]
    class_f1: Annotated[Measure, Field(alias="CF1")]
    overall_precision: Annotated[Measure, Field(alias="OP")]
    overall_recall: Annotated[Measure, Field(alias="OR")]
    overall_f1: Annotated[Measure, Field(alias="OF1")]
    macro_f1: Annotated[Measure, Field(alias="macro_F1")]

    def to_json(self) -> dict[str, float | None]:
        """The averages by the names that papers print: CP CR CF1 OP OR OF1 macro_F1."""
        return dict(_AVERAGES.dump_python(self, by_alias=True))


@dataclass(frozen=True, slots=True)
class LabelMetrics:
    """The measures of one label, and how many of its entries are positive, negative and unknown."""

    label: str
    ap: Annotated[Measure, Field(alias="AP")]
    auroc: Annotated[Measure, Field(alias="AUROC")]
    precision: Measure
    recall: Measure
    f1: Annotated[Measure, Field(alias="F1")]
    threshold: float
    positives: int
    negatives: int
    unknown: int


@dataclass(frozen=True, slots=True)
class MultilabelMetrics:
    """All measures of one set of scores, with the protocol they follow."""

    protocol: MetricsProtocol
    images: int
    labels: int
    left_out: LeftOut
    mean_ap: Annotated[Measure, Field(alias="mAP")]
    micro_ap: Annotated[Measure, Field(alias="micro_AP")]
    auroc: Annotated[Measure, Field(alias="AUROC")]
    label_ranking_ap: Annotated[Measure, Field(alias="label_ranking_AP")]
    coverage_error: Measure
    ranking_loss: Measure
    subset_accuracy: Measure
    hamming_loss: Measure
    all: PrecisionRecallAverages
    top_k: PrecisionRecallAverages
    top_k_always: PrecisionRecallAverages
    per_label: tuple[LabelMetrics, ...]

    def to_json(self) -> dict[str, Any]:
        """A tree of plain values for ``json.dump``, with ``format_version``; undefined measures are ``None``."""
        return {"format_version": FORMAT.version, **_METRICS.dump_python(self, mode="json", by_alias=True)}

    @classmethod
    def from_json(cls, tree: Any, where: str = "") -> MultilabelMetrics:
        """The metrics of a tree from ``to_json``. Other keys are not read, so an evaluation file can be read too.

        Args:
            tree: the tree.
            where: the file it was read from, for messages.

        Raises:
            DataError: the tree is of another format version, or a value is missing or of the wrong type.
        """
        return FORMAT.read(_METRICS, FORMAT.require(tree, where), where)


_AVERAGES = TypeAdapter(PrecisionRecallAverages)
_METRICS = TypeAdapter(MultilabelMetrics)
