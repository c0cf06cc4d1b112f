"""Read a bundle: the classifier and what belongs to it. Nothing outside its folder is opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from msrn.bundle.metadata import INPUTS_FILE, METADATA_FILE, WEIGHTS_FILE, Metadata, bundle_folder, read_metadata
from msrn.bundle.verify import verify_files
from msrn.config import ModelSettings, validate
from msrn.data.transforms import Preprocessing
from msrn.errors import BundleError, MsrnError, ShapeError
from msrn.labels.space import LabelSpace
from msrn.models.classifier import MultiLabelClassifier, build_without_weights
from msrn.models.heads.base import LabelInputs
from msrn.models.state_files import NoRandomInit, first_line, load_matching, read_safetensors, require_finite

__all__ = ["Bundle", "read_bundle"]


@dataclass(frozen=True)
class Bundle:
    """A trained classifier: all that prediction needs."""

    model: MultiLabelClassifier
    inputs: LabelInputs
    metadata: Metadata

    @cached_property
    def labels(self) -> LabelSpace:
        """The labels in the order of all columns."""
        return self.metadata.label_space()

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        return self.metadata.preprocessing

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One probability per label, in the order of ``labels``; a label is predicted when p > threshold."""
        return tuple(self.metadata.thresholds[name] for name in self.metadata.labels)

    @property
    def head_name(self) -> str:
        """The head's name in the registry."""
        return str(self.metadata.settings["model"]["head"]["name"])


def read_bundle(folder: str | Path, *, precompute: bool = True, calibrated: bool = True) -> Bundle:
    """A bundle's classifier (on the CPU, in evaluation mode) and what belongs to it.

    Args:
        folder: the bundle, or a run folder that holds one.
        precompute: turn the label semantics into constants, for inference.
        calibrated: give the logits that the bundle's calibration makes of those of the network, if it has one.

    Raises:
        BundleError: no bundle there, a file of it damaged, or of another format version.
    """
    folder, metadata = bundle_folder(folder), read_metadata(folder)
    verify_files(folder, metadata)
    where = str(folder / METADATA_FILE)
    try:
        state = read_safetensors(folder / WEIGHTS_FILE)
        tensors = read_safetensors(folder / INPUTS_FILE)
        require_finite({**state, **tensors})
        inputs = LabelInputs(metadata.labels, tensors.get("embeddings"), tensors.get("graph"))
        tree = metadata.settings["model"]
    except (AttributeError, KeyError, TypeError, ValueError, ShapeError) as error:
        raise BundleError(f"the bundle is damaged: {error}", where, "copy the whole folder again") from error
    settings = validate(ModelSettings, tree, where, prefix="settings.model")
    try:
        with NoRandomInit():
            model = build_without_weights(settings, inputs, image_size=metadata.preprocessing.size)
    except MsrnError:
        raise
    except Exception as error:  # a network of absurd size, which torch and timm refuse in many ways
        message = f"the network that the bundle describes cannot be built: {first_line(error)}"
        raise BundleError(message, where, "copy the whole folder again") from error
    load_matching(model, state, where=str(folder / WEIGHTS_FILE))
    model.eval().requires_grad_(False)
    if calibrated and metadata.calibration:
        rows = [metadata.calibration.labels[name] for name in metadata.labels]
        model.calibrate(*(torch.tensor([getattr(row, name) for row in rows]) for name in ("scale", "offset")))
    if precompute:
        with torch.no_grad():
            model.precompute()
    return Bundle(model, inputs, metadata)
