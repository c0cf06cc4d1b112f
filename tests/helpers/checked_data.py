"""Small data sets and their checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from msrn.audit.check import Check, check_data
from msrn.data.manifest import Manifest, Record
from msrn.labels.space import LabelSpace

LABELS = LabelSpace(["boat", "horse", "sea"])


def drawing(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def split(root: Path, name: str, *records: Record, labels: LabelSpace = LABELS) -> Manifest:
    return Manifest(records, labels, name, root, f"{name} list")


def run(*manifests: Manifest, near_bits: int | None = 8) -> Check:
    return check_data(manifests, near_bits=near_bits, min_train=4, min_test=2)


def found(check: Check) -> list[tuple[str, list[str]]]:
    """Codes with what they are about."""
    return [(each.code, [f"{p.split}/{p.image}" for p in each.images] or list(each.labels)) for each in check.issues]


def added(manifest: Manifest, *records: Record) -> Manifest:
    return split(manifest.root, manifest.split, *manifest.records, *records, labels=manifest.labels)
