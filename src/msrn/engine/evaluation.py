"""The evaluation of a classifier on a split: the metrics and what they were measured on, as a value and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from msrn.config import DifficultPolicy
from msrn.metrics.calibration import CalibrationMeasures
from msrn.metrics.intervals import Interval
from msrn.metrics.results import FORMAT, MultilabelMetrics

__all__ = ["EvaluatedData", "EvaluatedModel", "Evaluation"]


@dataclass(frozen=True, slots=True)
class EvaluatedData:
    """The split that was evaluated."""

    split: str
    source: str
    images: int
    unknown: int  # entries that the manifest declares unknown
    digest: str  # of image names and labels
    difficult: DifficultPolicy


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """The weights that were evaluated, and how."""

    weights: str  # SHA-256 of model.safetensors
    image_size: int
    precision: str
    tuned: bool  # decided by the bundle's thresholds in place of 0.5
    tuned_on_this_split: bool  # these thresholds were chosen on the very images evaluated
    msrn: str  # version
    epoch: int | None = None  # whose weights, from 1
    calibration: str | None = None  # method of the bundle's; None: the network's own probabilities
    images_trained_on: int | None = None  # evaluated images that the model was trained on; None: not known
    images_tuned_on: int | None = None  # evaluated images that the thresholds were tuned on, if tuned


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of a split, with the data and the policy for difficult objects.

    ``metrics.per_label`` counts as unknown what the manifest declares unknown. Difficult objects that AP leaves out are
    counted apart, in ``difficult_counts``: one number per label, in the order of ``metrics.per_label``.
    """

    metrics: MultilabelMetrics
    data: EvaluatedData
    difficult_counts: tuple[int, ...]
    model: EvaluatedModel | None = None  # None: the weights of a training that goes on
    mean_ap_interval: Interval | None = None  # None: not computed, as within a training
    calibration: CalibrationMeasures | None = None  # of the probabilities as evaluated; None: not computed

    def to_json(self) -> dict[str, Any]:
        """The tree of ``metrics``, with ``difficult`` in each row of ``per_label``, and the other fields."""
        tree = self.metrics.to_json()
        for row, count in zip(tree["per_label"], self.difficult_counts, strict=True):
            row["difficult"] = count
        tree["data"] = asdict(self.data)
        if self.model:
            tree["model"] = asdict(self.model)
        if self.mean_ap_interval:
            tree["mAP_interval"] = self.mean_ap_interval.to_json()
        if self.calibration:
            tree["calibration"] = _CALIBRATION.dump_python(self.calibration, mode="json")
        return tree

    def headline(self) -> dict[str, Any]:
        """The figures that a bundle repeats."""
        tree = self.to_json()
        return {name: tree[name] for name in ("mAP", "all", "top_k", "protocol", "data")}

    @classmethod
    def from_json(cls, tree: Any, where: str = "") -> Evaluation:
        """The evaluation of a tree from ``to_json``.

        Args:
            tree: the tree.
            where: the file it was read from, for messages.

        Raises:
            DataError: the tree is of another format version, or a value is missing or of the wrong type.
        """
        metrics = MultilabelMetrics.from_json(tree, where)
        counts = [row.get("difficult") for row in tree["per_label"]]
        return cls(
            metrics,
            FORMAT.read(_DATA, tree.get("data"), where, below=("data",)),
            FORMAT.read(_COUNTS, counts, where, below=("per_label", "difficult")),
            FORMAT.read(_MODEL, tree["model"], where, below=("model",)) if "model" in tree else None,
            FORMAT.read(_INTERVAL, tree["mAP_interval"], where, below=("mAP_interval",))
            if "mAP_interval" in tree
            else None,
            FORMAT.read(_CALIBRATION, tree["calibration"], where, below=("calibration",))
            if "calibration" in tree
            else None,
        )


_DATA = TypeAdapter(EvaluatedData)
_MODEL = TypeAdapter(EvaluatedModel)
_INTERVAL = TypeAdapter(Interval)
_CALIBRATION = TypeAdapter(CalibrationMeasures)
_COUNTS = TypeAdapter(tuple[int, ...])
