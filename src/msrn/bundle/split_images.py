"""Which images a bundle was trained and validated on: two 64-bit hashes for each, of its name and of its path.

Names alone are kept, never content, and only as hashes: 16 bytes an image. Evaluation compares with them, so that no
figure on images that the model has seen passes for one on new images.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from msrn.bundle.metadata import IMAGES_FILE, METADATA_FILE, Metadata
from msrn.bundle.verify import require_file
from msrn.data.manifest import Manifest
from msrn.errors import BundleError

__all__ = ["image_hashes", "is_among", "read_split_images"]


def image_hashes(manifest: Manifest) -> np.ndarray:
    """``(n, 2)`` int64: for each image the hash of its name in the manifest, and of its absolute path."""
    root = os.path.abspath(manifest.root)
    hashes = np.empty((len(manifest), 2), np.int64)
    for row, record in enumerate(manifest.records):
        name = os.path.normpath(record.image)
        hashes[row] = _hash(name), _hash(os.path.join(root, name))
    return hashes


def is_among(manifest: Manifest, hashes: np.ndarray) -> np.ndarray:
    """``(n,)`` bool: whether an image has the name or the path of one of ``hashes (m, 2)``."""
    own = image_hashes(manifest)
    among: np.ndarray = np.isin(own[:, 0], hashes[:, 0]) | np.isin(own[:, 1], hashes[:, 1])
    return among


def read_split_images(folder: Path, metadata: Metadata) -> Mapping[str, np.ndarray]:
    """The hashes of a bundle's ``train`` and ``val`` images, ``(n, 2)`` each; nothing if it does not record them.

    Raises:
        BundleError: the file is missing though it is recorded, or is damaged.
    """
    if IMAGES_FILE not in metadata.files:
        return {}
    require_file(folder, IMAGES_FILE, metadata)
    try:
        tensors = load_file(folder / IMAGES_FILE)
    except (OSError, SafetensorError) as error:
        where = str(folder / METADATA_FILE)
        raise BundleError(f"the bundle is damaged: {error}", where, "copy the whole folder again") from error
    return {name: value.reshape(-1, 2).to(torch.int64).numpy() for name, value in tensors.items()}


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(os.fsencode(name), digest_size=8).digest(), "little", signed=True)
