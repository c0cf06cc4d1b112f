"""How are decoded pictures kept, so that files are read and decoded once for all epochs?

A picture is kept exactly as ``open_image`` gives it, so that training with a cache sees the same numbers as without.
Its key is the content of its file: a file that changed is another picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from msrn.data.array_store import ArrayStore, key_of
from msrn.data.manifest import Manifest
from msrn.data.transforms import open_image
from msrn.errors import DataError, reason

__all__ = ["PictureCache", "content_keys"]

AT_A_TIME = 64
"""Pictures decoded by threads before they are written."""


class PictureCache:
    """The decoded pictures of a manifest, by position.

    Args:
        manifest: whose pictures; those that the folder lacks are decoded and added, by ``workers`` threads.
        folder: the cache's; several manifests may share it.
        least_side: as in ``open_image``.
        advance: called with a number of pictures as they are done.

    Raises:
        DataError: pictures cannot be read (all are named), or as ``ArrayStore``.
    """

    def __init__(
        self,
        manifest: Manifest,
        folder: str | Path,
        *,
        least_side: int = 0,
        workers: int = 2,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.store = ArrayStore(folder, np.uint8)
        self.keys = content_keys(manifest, f"picture, least side {least_side}", workers=workers)
        missing = [index for index, key in enumerate(self.keys) if key not in self.store]
        advance(len(self.keys) - len(missing))
        if missing:
            with self.store as store, ThreadPoolExecutor(max(1, workers)) as pool:
                for start in range(0, len(missing), AT_A_TIME):
                    part = missing[start : start + AT_A_TIME]
                    pictures = pool.map(lambda index: open_image(manifest.path(index), least_side=least_side), part)
                    for index, picture in zip(part, pictures, strict=True):
                        store.add(self.keys[index], np.asarray(picture))
                    advance(len(part))

    def picture(self, index: int) -> Image.Image:
        """A picture, RGB."""
        return Image.fromarray(np.array(self.store[self.keys[index]]))


def content_keys(manifest: Manifest, made_by: str, *, workers: int = 2) -> Sequence[bytes]:
    """For each picture a key of its file's content and of how what is kept was made from it.

    Raises:
        DataError: files cannot be read; all are named.
    """

    def key(index: int) -> bytes | DataError:
        try:
            picture = manifest.picture(index)
            return key_of(made_by, picture if isinstance(picture, bytes) else picture.read_bytes())
        except OSError as error:
            return DataError(f"the picture cannot be read: {reason(error)}", str(manifest.path(index)))
        except DataError as error:
            return error

    with ThreadPoolExecutor(max(1, workers)) as pool:
        keys = list(pool.map(key, range(len(manifest))))
    problems = [problem for found in keys if isinstance(found, DataError) for problem in found.problems]
    if problems:
        raise DataError.of(problems, "pictures cannot be read")
    return [found for found in keys if isinstance(found, bytes)]
