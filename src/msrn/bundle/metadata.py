"""``bundle.json``: what a bundle says about itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from msrn.config import without_unknown
from msrn.data.manifest import Manifest
from msrn.data.transforms import Preprocessing
from msrn.errors import BundleError, LabelError
from msrn.files import parse_json
from msrn.labels.embeddings import Resolved
from msrn.labels.space import LabelSpace
from msrn.metrics.calibration import CalibrationMeasures, LabelCalibration
from msrn.metrics.thresholds import TunedThreshold

__all__ = [
    "FORMAT_VERSION",
    "IMAGES_FILE",
    "INPUTS_FILE",
    "METADATA_FILE",
    "WEIGHTS_FILE",
    "CalibrationRecord",
    "Metadata",
    "SplitRecord",
    "ThresholdRecord",
    "bundle_folder",
    "in_run_folder",
    "read_metadata",
]

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
METADATA_FILE, WEIGHTS_FILE, INPUTS_FILE = "bundle.json", "model.safetensors", "label_inputs.safetensors"
IMAGES_FILE = "split_images.safetensors"
"""Only where the images of training are known, and not read to predict."""


Probability = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class SplitRecord(_Record):
    """Which images a split holds: two equal digests are the same images with the same labels in the same order."""

    name: str
    source: str
    images: NonNegativeInt
    unknown_entries: NonNegativeInt
    digest: str

    @classmethod
    def of(cls, manifest: Manifest) -> SplitRecord:
        """The record of a manifest."""
        return cls(
            name=manifest.split,
            source=manifest.source,
            images=len(manifest),
            unknown_entries=manifest.unknown_entries,
            digest=manifest.digest,
        )


class EmbeddingRecord(_Record):
    """Where the label embeddings came from, and how each was found."""

    source: str
    labels: tuple[Resolved, ...]


class GraphRecord(_Record):
    """The label graph: its edges with P(j|i), and the number of images of each label."""

    source: str
    threshold: float
    symmetric: bool
    edges: tuple[tuple[str, str, float], ...]
    totals: tuple[NonNegativeInt, ...]


class ThresholdRecord(_Record):
    """What a label's threshold rests on; the fields of ``metrics.thresholds.TunedThreshold`` without its value."""

    f1: float | None
    positives: NonNegativeInt
    tuned: bool
    precision: float | None = None
    recall: float | None = None
    reason: str = ""


class CalibrationRecord(_Record):
    """What makes the logits of the network those of the bundle, what it was fitted to, and what it changed."""

    method: str
    labels: dict[str, LabelCalibration]
    split: SplitRecord
    before: CalibrationMeasures
    after: CalibrationMeasures
    """Cross-fitted: the probabilities of each fifth of the images are those of a fit to the others."""


class Metadata(_Record):
    """The content of ``bundle.json``. Keys that a later version adds are ignored."""

    format: Literal["msrn-bundle"] = "msrn-bundle"
    format_version: int = FORMAT_VERSION
    labels: tuple[str, ...]
    labels_digest: str
    preprocessing: Preprocessing
    precision: str
    """In which training computed (``run.precision``)."""
    thresholds: dict[str, Probability]
    """One probability per label; a label is predicted when p > threshold."""
    threshold_support: dict[str, ThresholdRecord]
    """What each threshold rests on; empty if none was tuned."""
    thresholds_chosen: str
    """How the thresholds were chosen."""
    thresholds_split: SplitRecord | None
    """The images that they were tuned on; None: they were not tuned."""
    calibration: CalibrationRecord | None = None
    """None: the logits are those of the network."""
    splits: dict[str, SplitRecord]
    """What training used, by ``train`` and ``val``."""
    epoch: int
    """Number of the epoch whose weights were kept, from 1."""
    metrics: dict[str, Any]
    """Figures on the validation split; empty without one."""
    soup: tuple[str, ...] = ()
    """SHA-256 of the weights whose mean these are; empty: they are as trained."""
    embeddings: EmbeddingRecord | None
    graph: GraphRecord | None
    settings: dict[str, Any]
    """The settings of the run, as it was trained."""
    versions: dict[str, str]
    files: dict[str, str]
    """SHA-256 of the other files, by name."""

    def label_space(self) -> LabelSpace:
        """The labels in the order of all columns."""
        return LabelSpace(self.labels)

    def with_thresholds(self, tuned: Sequence[TunedThreshold], *, chosen: str, split: SplitRecord) -> Metadata:
        """The same with other thresholds: one per label, how they were chosen, and on which images."""
        named = dict(zip(self.labels, tuned, strict=True))
        support = {name: asdict(each) for name, each in named.items()}
        changes = {
            "thresholds": {name: each.value for name, each in named.items()},
            "threshold_support": {name: ThresholdRecord.model_validate(fields) for name, fields in support.items()},
            "thresholds_chosen": chosen,
            "thresholds_split": split,
        }
        return self.model_copy(update=changes)

    def training_settings(self, *sections: str) -> dict[str, Any]:
        """Sections of the training's settings; what this version does not have is left out, and named in the log."""
        tree = {name: self.settings[name] for name in sections if name in self.settings}
        kept, unknown = without_unknown(tree)
        if unknown:
            message = "the bundle was trained with settings that this version of msrn does not have: %s"
            logger.warning(message, ", ".join(unknown))
        return kept

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``bundle.json``."""
        return self.model_dump(mode="json")


def bundle_folder(folder: str | Path) -> Path:
    """The bundle itself, given it or the run folder that holds it."""
    folder = Path(folder)
    inside = folder / "bundle"
    return inside if not (folder / METADATA_FILE).exists() and (inside / METADATA_FILE).exists() else folder


def in_run_folder(folder: str | Path) -> bool:
    """Whether a bundle lies in the folder of its run, where that run's results belong."""
    bundle = bundle_folder(folder)
    return bundle.name == "bundle" and (bundle.parent / "settings.yaml").exists()


def read_metadata(folder: str | Path) -> Metadata:
    """``bundle.json`` of a bundle or of the run folder that holds it.

    Raises:
        BundleError: there is none, it is damaged, or another version wrote it.
    """
    folder = bundle_folder(folder)
    where = str(folder / METADATA_FILE)
    try:
        content = parse_json((folder / METADATA_FILE).read_bytes())
        name, version = content["format"], int(content["format_version"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no_bundle(folder, METADATA_FILE) from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"the bundle is damaged: {error}", where, "copy the whole folder again") from error
    if name != "msrn-bundle" or version != FORMAT_VERSION:
        raise BundleError(
            f"expected an msrn bundle of format version {FORMAT_VERSION}, got {name} {version}",
            where,
            "use the msrn version named in its 'versions'"
            if version > FORMAT_VERSION
            else "train it again, or use the msrn version that wrote it",
        )
    try:
        metadata = Metadata.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"the bundle is damaged: {place}: {first['msg']}", where, "copy the folder again") from error
    try:
        digest = metadata.label_space().digest
    except LabelError as error:
        raise BundleError(f"the bundle is damaged: {error}", where, "copy the whole folder again") from error
    named = [metadata.thresholds.keys(), *([metadata.calibration.labels.keys()] if metadata.calibration else [])]
    if digest != metadata.labels_digest or any(keys != set(metadata.labels) for keys in named):
        raise BundleError(
            "the labels are not those, in that order, that the weights were trained for",
            where,
            "copy the whole folder again; its files belong together",
        )
    return metadata


def no_bundle(folder: Path, missing: str) -> BundleError:
    """The error for a folder that lacks a file of a bundle."""
    return BundleError(
        f"expected a bundle ({METADATA_FILE}, {WEIGHTS_FILE}, {INPUTS_FILE}), found no {missing}",
        str(folder),
        "a run folder holds one once the first evaluation is done; see msrn train",
    )
