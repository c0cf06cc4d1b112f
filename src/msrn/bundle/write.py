"""Write a bundle: all its files, or nothing."""

from __future__ import annotations

import os
import shutil
from importlib import metadata as packages
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from msrn.bundle.metadata import INPUTS_FILE, METADATA_FILE, WEIGHTS_FILE, Metadata
from msrn.bundle.verify import file_digest
from msrn.errors import BundleError
from msrn.files import atomic_path, write_json
from msrn.models.classifier import MultiLabelClassifier
from msrn.models.heads.base import LabelInputs

__all__ = ["package_versions", "repair_bundle", "write_bundle", "write_metadata"]


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape a result."""
    return {name: packages.version(name) for name in ("msrn", "torch", "torchvision", "timm", "pillow")}


def write_bundle(folder: Path, model: MultiLabelClassifier, inputs: LabelInputs, metadata: Metadata) -> None:
    """Write weights, label inputs and metadata; a bundle that is already there is replaced as a whole.

    Args:
        folder: the bundle.
        model: as trained, not precomputed.
        inputs: the label inputs the head was built with.
        metadata: everything else; ``files`` is filled in here.

    Raises:
        BundleError: the folder exists and is no bundle. OSError: it cannot be written; the old bundle stays.
    """
    if folder.exists() and not (folder / METADATA_FILE).is_file():
        hint = "move it away, or choose another run folder"
        raise BundleError("expected a bundle or nothing here", str(folder), hint)
    partial, old = (folder.with_name(f"{folder.name}.{suffix}") for suffix in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        tensors = {"embeddings": inputs.embeddings, "graph": inputs.graph}
        _save(partial / WEIGHTS_FILE, model.state_dict())
        _save(partial / INPUTS_FILE, {name: tensor for name, tensor in tensors.items() if tensor is not None})
        files = {name: file_digest(partial / name) for name in (WEIGHTS_FILE, INPUTS_FILE)}
        write_json(partial / METADATA_FILE, metadata.model_copy(update={"files": files}).to_json())
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
    finally:
        repair_bundle(folder)


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Replace ``bundle.json`` of a bundle in one step; its other files stay as they are."""
    write_json(folder / METADATA_FILE, metadata.to_json())


def repair_bundle(folder: Path) -> None:
    """Finish or undo what was begun of ``write_bundle``: afterwards there is a whole bundle, or none."""
    partial, old = (folder.with_name(f"{folder.name}.{suffix}") for suffix in ("partial", "old"))
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)


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
