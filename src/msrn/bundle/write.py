"""Write a bundle: all its files, or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib import metadata as packages
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from msrn.bundle.metadata import IMAGES_FILE, INPUTS_FILE, METADATA_FILE, WEIGHTS_FILE, Metadata
from msrn.bundle.verify import file_digest
from msrn.errors import BundleError
from msrn.files import atomic_path, write_json
from msrn.models.classifier import MultiLabelClassifier
from msrn.models.heads.base import LabelInputs

__all__ = ["package_versions", "repair_bundle", "try_to_write", "write_bundle", "write_metadata"]


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape a result."""
    return {name: packages.version(name) for name in ("msrn", "torch", "torchvision", "timm", "pillow")}


def write_bundle(
    folder: Path,
    model: MultiLabelClassifier,
    inputs: LabelInputs,
    metadata: Metadata,
    *,
    split_images: Mapping[str, np.ndarray] | None = None,
) -> Metadata:
    """Write weights, label inputs and metadata; a bundle that is already there is replaced as a whole.

    Args:
        folder: the bundle.
        model: as trained, not precomputed.
        inputs: the label inputs the head was built with.
        metadata: everything else; ``files`` is filled in here.
        split_images: ``image_hashes`` of the splits of training, by ``train`` and ``val``; None: they are not known.

    Returns:
        The metadata as written.

    Raises:
        BundleError: the folder exists and is no bundle. OSError: it cannot be written; the old bundle stays.
    """
    if folder.exists() and not (folder / METADATA_FILE).is_file():
        hint = "move it away, or choose another run folder"
        raise BundleError("expected a bundle or nothing here", str(folder), hint)
    partial, old = _beside(folder)
    repair_bundle(folder)
    try:
        written = _write_files(partial, model, inputs, metadata, split_images)
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
    finally:
        repair_bundle(folder)
    return written


def try_to_write(folder: Path, model: MultiLabelClassifier, inputs: LabelInputs, metadata: Metadata) -> None:
    """Write the files of a bundle beside ``folder`` and remove them: what cannot be written shows before training.

    Raises:
        OSError: as ``write_bundle``.
    """
    try:
        _write_files(_beside(folder)[0], model, inputs, metadata, None)
    finally:
        repair_bundle(folder)


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Replace ``bundle.json`` of a bundle in one step; its other files stay as they are."""
    write_json(folder / METADATA_FILE, metadata.to_json())


def repair_bundle(folder: Path) -> None:
    """Finish or undo what was begun of ``write_bundle``: afterwards there is a whole bundle, or none."""
    partial, old = _beside(folder)
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where a bundle is written, and where the one that it replaces waits."""
    return folder.with_name(f"{folder.name}.partial"), folder.with_name(f"{folder.name}.old")


def _write_files(
    folder: Path,
    model: MultiLabelClassifier,
    inputs: LabelInputs,
    metadata: Metadata,
    split_images: Mapping[str, np.ndarray] | None,
) -> Metadata:
    folder.mkdir(parents=True)
    given = {"embeddings": inputs.embeddings, "graph": inputs.graph}
    tensors = {
        WEIGHTS_FILE: model.state_dict(),
        INPUTS_FILE: {name: tensor for name, tensor in given.items() if tensor is not None},
    }
    if split_images is not None:
        tensors[IMAGES_FILE] = {name: torch.from_numpy(hashes) for name, hashes in split_images.items()}
    for name, content in tensors.items():
        _save(folder / name, content)
    written = metadata.model_copy(update={"files": {name: file_digest(folder / name) for name in tensors}})
    write_json(folder / METADATA_FILE, written.to_json())
    return written


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    """As safetensors, readable by whom the umask allows: the library itself writes for the owner alone.

    Tensors that share memory, such as tied weights, are written once for each name.
    """
    seen: set[int] = set()
    own = {}
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    mask = os.umask(0)
    os.umask(mask)
    with atomic_path(path) as file:
        save_file(own, file)
        file.chmod(0o666 & ~mask)
