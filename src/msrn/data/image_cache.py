"""Keep decoded images, so that files are read and decoded once for all epochs.

An image is kept exactly as ``open_image`` returns it, so training sees the same numbers with and without a cache. Its
key is the content of its file: a file that changed is another image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from msrn.data.array_store import ArrayStore, key_of
from msrn.data.decode import open_image
from msrn.data.manifest import Manifest
from msrn.errors import DataError

__all__ = ["ImageCache", "content_keys"]

CHUNK = 64
"""Images that are decoded by threads before they are written."""


class ImageCache:
    """The decoded images of a manifest, by position.

    Args:
        manifest: its images that the folder lacks are decoded and added.
        folder: of the cache; several manifests may share it.
        min_side: as in ``open_image``.
        workers: threads that decode.
        advance: called with a number of images as they are done.

    Raises:
        DataError: images cannot be read (all are named), or as ``ArrayStore``.
    """

    def __init__(
        self,
        manifest: Manifest,
        folder: str | Path,
        *,
        min_side: int = 0,
        workers: int = 2,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.store = ArrayStore(folder, np.uint8)
        self.keys = content_keys(manifest, f"image, min side {min_side}", workers=workers)
        missing = [index for index, key in enumerate(self.keys) if key not in self.store]
        advance(len(self.keys) - len(missing))
        if missing:
            with self.store as store, ThreadPoolExecutor(max(1, workers)) as pool:
                for start in range(0, len(missing), CHUNK):
                    part = missing[start : start + CHUNK]
                    images = pool.map(lambda index: open_image(manifest.path(index), min_side=min_side), part)
                    for index, image in zip(part, images, strict=True):
                        store.add(self.keys[index], np.asarray(image))
                    advance(len(part))

    def image(self, index: int) -> Image.Image:
        """A decoded image, RGB."""
        return Image.fromarray(np.array(self.store[self.keys[index]]))


def content_keys(manifest: Manifest, made_by: str, *, workers: int = 2) -> Sequence[bytes]:
    """For each image, a key of the content of its file and of ``made_by``, which describes what is kept.

    Raises:
        DataError: files cannot be read; all are named.
    """

    def key(index: int) -> bytes | DataError:
        try:
            return key_of(made_by, manifest.image_bytes(index))
        except DataError as error:
            return error

    with ThreadPoolExecutor(max(1, workers)) as pool:
        keys = list(pool.map(key, range(len(manifest))))
    problems = [problem for found in keys if isinstance(found, DataError) for problem in found.problems]
    if problems:
        raise DataError.of(problems, "images cannot be read")
    return [found for found in keys if isinstance(found, bytes)]
