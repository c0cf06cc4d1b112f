"""Write COCO annotations: images, categories, and one annotation without a box per label of an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from msrn import registry
from msrn.data.manifest import DIFFICULT, UNKNOWN, Manifest
from msrn.data.writers.contents import image_names, written_text
from msrn.errors import DataError
from msrn.files import refuse_to_overwrite, write_atomically

__all__ = ["Options", "write"]


class Options(registry.Options):
    """The writer of COCO annotations has no options."""

    name: str = "coco"


def write(options: Options, manifest: Manifest, path: Path, *, force: bool = False) -> str:
    """Write an annotation file.

    Raises:
        DataError: the manifest has unknown or difficult labels, or the file exists and ``force`` is not set.
    """
    refuse_to_overwrite([path], force=force)
    codes = manifest.codes()
    for code, what in ((UNKNOWN, "unknown labels"), (DIFFICULT, "difficult objects")):
        if count := int((codes == code).any(1).sum()):
            message = f"COCO has no place for {what}, which {count:,} images have"
            raise DataError(message, str(path), "write a manifest, a table (unknown labels only) or webdataset")
    images, root = image_names(manifest, path.parent)
    pairs = np.argwhere(codes == 1).tolist()
    tree = {
        "info": {"description": f"{manifest.source}; labels of images, no boxes"},
        "images": [{"id": index, "file_name": image} for index, image in enumerate(images, start=1)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(manifest.labels, start=1)],
        "annotations": [
            {"id": number, "image_id": image + 1, "category_id": label + 1, "iscrowd": 0}
            for number, (image, label) in enumerate(pairs, start=1)
        ],
    }
    write_atomically(path, json.dumps(tree, ensure_ascii=False), parents=True)
    return written_text(path, root)
