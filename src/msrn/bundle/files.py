"""What does a run leave behind? Its state, to go on exactly; and the bundle, for everybody else."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from msrn.config import Settings, load_settings
from msrn.data.transforms import Preprocessing
from msrn.errors import BundleError
from msrn.labels.space import LabelSpace
from msrn.models import Tagger, build_model
from msrn.models.weights import NoRandomInit, load_matching

__all__ = [
    "Bundle",
    "bundle_folder",
    "load_state",
    "read_bundle",
    "read_facts",
    "save_state",
    "write_bundle",
    "write_json",
]

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Bundle:
    """A trained tagger: all that prediction needs.

    ``thresholds`` holds one probability per label, in the order of ``labels``; a label is given when p > threshold.
    ``facts`` is the rest of ``bundle.json``: metrics, versions, data.
    """

    model: Tagger
    labels: LabelSpace
    preprocessing: Preprocessing
    thresholds: tuple[float, ...]
    settings: Settings
    facts: dict[str, Any]


def write_bundle(
    folder: Path,
    model: nn.Module,
    *,
    labels: LabelSpace,
    preprocessing: Preprocessing,
    thresholds: list[float],
    settings: Settings,
    facts: dict[str, Any],
) -> None:
    """Write ``model.safetensors`` and ``bundle.json``; a bundle that is already there is replaced as a whole."""
    beside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    weights = beside / "model.safetensors"
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, weights)
    content = {
        "format": "msrn-bundle",
        "format_version": FORMAT_VERSION,
        "labels": list(labels.names),
        "labels_digest": labels.digest,
        "weights_sha256": _digest(weights),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "thresholds": dict(zip(labels.names, thresholds, strict=True)),
        "settings": settings.model_dump(mode="json"),
        "versions": {name: metadata.version(name) for name in ("msrn", "torch", "torchvision", "timm", "pillow")},
        **facts,
    }
    write_json(beside / "bundle.json", content)
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(beside, folder)
    shutil.rmtree(old, ignore_errors=True)


def read_bundle(folder: str | Path, *, fold: bool = True) -> Bundle:
    """A bundle's model (on the CPU, in evaluation mode) and what belongs to it.

    Args:
        folder: the bundle, or a run folder that holds one.
        fold: turn the label side into constants, for inference.

    Raises:
        BundleError: no bundle there, a file of it damaged, or written by a later version.
    """
    folder, content = bundle_folder(folder), read_facts(folder)
    where = str(folder / "bundle.json")
    try:
        if _digest(folder / "model.safetensors") != content["weights_sha256"]:
            raise BundleError(
                "the weights are not those that bundle.json was written for",
                str(folder / "model.safetensors"),
                "copy the whole folder again; its files belong together",
            )
        state = load_file(folder / "model.safetensors")
        labels = LabelSpace(content["labels"])
        if labels.digest != content["labels_digest"]:
            raise BundleError(
                "the labels are not those, in that order, that the weights were trained for",
                where,
                "copy the whole folder again; its files belong together",
            )
        settings = load_settings(content["settings"], where)
        preprocessing = Preprocessing.model_validate(content["preprocessing"])
        thresholds = tuple(float(content["thresholds"][name]) for name in labels)
    except FileNotFoundError as error:
        raise _no_bundle(folder, error) from None
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BundleError(f"the bundle is damaged: {error}", where, "copy the whole folder again") from error
    build = settings.model.model_copy(update={"weights": "none", "checkpoint": ""})
    count = len(labels)
    with NoRandomInit():
        model = build_model(
            build,
            label_vectors=state.get("semantics.label_vectors", torch.zeros(count, 1)),
            adjacency=state.get("semantics.adjacency", torch.zeros(count, count)),
            image_size=preprocessing.size,
        )
    load_matching(model, state, where=str(folder / "model.safetensors"))
    model.eval().requires_grad_(False)
    if fold:
        model.fold()
    return Bundle(model, labels, preprocessing, thresholds, settings, content)


def bundle_folder(folder: str | Path) -> Path:
    """The bundle itself, given it or the run folder that holds it."""
    folder = Path(folder)
    inside = folder / "bundle"
    return inside if not (folder / "bundle.json").exists() and (inside / "bundle.json").exists() else folder


def read_facts(folder: str | Path) -> dict[str, Any]:
    """``bundle.json`` as it is: settings, labels, preprocessing, thresholds, metrics, versions.

    Raises:
        BundleError: no bundle there, damaged, or written by a later version.
    """
    folder = bundle_folder(folder)
    where = str(folder / "bundle.json")
    try:
        content: dict[str, Any] = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        form, version = content["format"], int(content["format_version"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_bundle(folder, error) from None
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"the bundle is damaged: {error}", where, "copy the whole folder again") from error
    if form != "msrn-bundle" or version > FORMAT_VERSION:
        raise BundleError(
            f"expected an msrn bundle of version {FORMAT_VERSION} or earlier, got {form} {version}",
            where,
            "use the msrn version named in its 'versions', or a later one",
        )
    return content


def _no_bundle(folder: Path, error: OSError) -> BundleError:
    return BundleError(
        f"expected a bundle (bundle.json and model.safetensors), found no {Path(error.filename or '').name}",
        str(folder),
        "a run folder holds one once the first evaluation is done; see msrn train",
    )


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state (tensors and plain values) beside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    torch.save(state, beside)
    os.replace(beside, path)


def load_state(path: Path) -> dict[str, Any]:
    """A run's state, on the CPU.

    Raises:
        BundleError: there is none, or the file is damaged.
    """
    if not path.is_file():
        raise BundleError("expected the checkpoint of a run, found none", str(path), "start the run without --resume")
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(f"the checkpoint is damaged: {told}", str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Write beside, then rename. Not-a-number is refused: JSON has none."""
    beside = path.with_suffix(".json.partial")
    beside.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
