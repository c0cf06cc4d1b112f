"""What a run stands on, beside its settings: labels, images with their labels, label inputs and preprocessing.

It is saved with the weights. A run that is resumed compares it with what the settings lead to now, because files may
have changed: a column that was learned as car must not go on as cat.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msrn.bundle.metadata import SplitRecord
from msrn.bundle.split_images import image_hashes
from msrn.data.manifest import Manifest
from msrn.engine.setup import Setup
from msrn.errors import DataError, Problem
from msrn.models.heads.base import LabelInputs

__all__ = ["identity_of", "require_same", "split_images", "warn_of_overlap"]

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")


def identity_of(setup: Setup, *, teacher: str) -> dict[str, Any]:
    """The identity of a run's data, as tensors and plain values. It hashes every record of both splits.

    Args:
        setup: of the run.
        teacher: digest of the weights of the classifier that is distilled; empty: none.
    """
    return {
        "labels": list(setup.labels.names),
        "train": _split(setup.train),
        "val": _split(setup.val) if setup.val else None,
        "label_inputs": _digest(setup.inputs),
        "preprocessing": setup.preprocessing.model_dump(mode="json"),
        "teacher": teacher,
    }


def split_images(identity: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The hashes of the images of each split, as a bundle keeps them."""
    return {name: identity[name]["images_hashed"].numpy() for name in SPLITS if identity[name]}


def require_same(saved: Mapping[str, Any], now: Mapping[str, Any], *, folder: Path, processes: int) -> None:
    """Refuse to go on with other data than a run began with.

    Args:
        saved: the state of the run; ``data`` is its identity when it began. What an earlier version did not record is
            not compared.
        now: the identity of what the settings lead to now.
        folder: of the run, for messages.
        processes: that train now. Another number changes no more than the draws of dropout and mixing; it is warned of.

    Raises:
        DataError: the data differs; what differs is named.
    """
    found = _differences(saved["data"], now)
    if found:
        problems = [Problem(message, str(folder), "restore the data, or start a new run") for message in found]
        raise DataError.of(problems, "a resumed run must find the labels and images that it began with")
    if (began := saved.get("processes", processes)) != processes:
        message = "the run began with %d processes and goes on with %d: its numbers may differ from here on"
        logger.warning(message, began, processes)


def warn_of_overlap(identity: Mapping[str, Any]) -> None:
    """Say how many validation images are trained on: they make every validation figure too high."""
    hashed = split_images(identity)
    if "val" in hashed and (same := int(np.isin(hashed["val"][:, 0], hashed["train"][:, 0]).sum())):
        logger.warning(
            "%d of %d validation images are in the training split too: validation figures are too high",
            same, len(hashed["val"]),
        )  # fmt: skip


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    lost, added = (
        [name for name in one["labels"] if name not in other["labels"]] for one, other in ((before, now), (now, before))
    )
    if lost or added:
        return [f"the labels are others: lost {lost or 'none'}, new {added or 'none'}"]
    if before["labels"] != now["labels"]:
        return ["the labels stand in another order"]
    found = [_split_difference(name, before[name], now[name]) for name in SPLITS]
    found = [message for message in found if message]
    if not found and before.get("label_inputs", now["label_inputs"]) != now["label_inputs"]:
        # not said beside another training split: a graph is counted on it
        found.append("the label embeddings or the label graph are others")
    old, new = before.get("preprocessing", now["preprocessing"]), now["preprocessing"]
    if old != new:
        changed = [key for key, value in new.items() if old.get(key) != value]
        found.append(f"images would be preprocessed in another way: {', '.join(changed) or 'fewer settings'}")
    if before.get("teacher", now["teacher"]) != now["teacher"]:
        found.append("the teacher is another one")
    return found


def _split(manifest: Manifest) -> dict[str, Any]:
    record = SplitRecord.of(manifest).model_dump(mode="json")
    return {**record, "images_hashed": torch.from_numpy(image_hashes(manifest)), "labels_hashed": _row_hashes(manifest)}


def _row_hashes(manifest: Manifest) -> torch.Tensor:
    """``(n,)`` int64: for each image a hash of its labels."""
    rows = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in manifest.codes()]
    return torch.from_numpy(np.frombuffer(b"".join(rows), np.int64).copy())


def _digest(inputs: LabelInputs) -> str:
    hasher = hashlib.sha256()
    for tensor in (inputs.embeddings, inputs.graph):
        hasher.update(b"none" if tensor is None else tensor.numpy().tobytes())
    return hasher.hexdigest()


def _split_difference(name: str, before: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    """What became of a split, in words; empty if nothing did."""
    if (before or {}).get("digest") == (now or {}).get("digest"):
        return ""
    text = f"the {name} split is another one: it was {_described(before)}, and is now {_described(now)}"
    hashes = ("images_hashed", "labels_hashed")
    if before is None or now is None or any(before.get(name) is None for name in hashes):
        return text
    old, new = (
        dict(zip(each["images_hashed"][:, 0].tolist(), each["labels_hashed"].tolist(), strict=True))
        for each in (before, now)
    )
    counts = {
        "missing": len(old.keys() - new.keys()),
        "new": len(new.keys() - old.keys()),
        "with other labels": sum(old[key] != new[key] for key in old.keys() & new.keys()),
    }
    parts = [f"{count:,} {kind}" for kind, count in counts.items() if count]
    return f"{text} ({', '.join(parts) or 'the same images in another order'})"


def _described(split: dict[str, Any] | None) -> str:
    return f"{split['images']} images ({split['source']})" if split else "none"
