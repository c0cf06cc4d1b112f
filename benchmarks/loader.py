"""Images per second from the loaders, and the time that training waits for them."""

from __future__ import annotations

import itertools
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network import preset_with, training_step
from predict import draw_images
from timing import Run, Times, ratio, side_by_side

from msrn.config import Settings
from msrn.data.dataset import ImageDataset, on_device, training_loader
from msrn.data.image_cache import ImageCache
from msrn.data.manifest import Manifest, Record
from msrn.data.transforms import Preprocessing, train_transform
from msrn.labels.space import LabelSpace

LABELS = 20


def manifest(paths: list[Path]) -> Manifest:
    """Files with labels drawn at random."""
    labels = LabelSpace([f"label {number:02}" for number in range(LABELS)])
    records = tuple(Record(image=str(path), positives=(f"label {n % LABELS:02}",)) for n, path in enumerate(paths))
    return Manifest(records, labels, "train", Path("/"))


def dataset(files: Manifest, settings: Settings, margin: float, cache: Path | None = None) -> ImageDataset:
    """A training split as the preset reads it."""
    preprocessing = Preprocessing(size=settings.data.image_size, decode_margin=margin)
    return ImageDataset(
        files,
        train_transform(preprocessing, settings.data.augment),
        files.targets("positive"),
        min_side=preprocessing.min_side,
        cache=ImageCache(files, cache, min_side=preprocessing.min_side) if cache else None,
    )


def epoch(images: ImageDataset, workers: int, batch: int = 32) -> None:
    """Read every image once."""
    for _ in training_loader(images, batch_size=batch, seed=0, epoch=0, workers=workers):
        pass


def rates(folder: Path, settings: Settings, size: tuple[int, int], count: int, shown: str) -> list[dict[str, Any]]:
    """Images per second by workers, decoded in full, reduced, and from the cache."""
    folder.mkdir()
    files = manifest(draw_images(folder, count, size))
    sets = {
        "decoded in full": dataset(files, settings, 0),
        "decoded reduced": dataset(files, settings, settings.data.decode_margin),
        "from the cache": dataset(files, settings, settings.data.decode_margin, folder / "cache"),
    }
    calls: dict[str, Run] = {}
    for (how, images), workers in itertools.product(sets.items(), (0, 1, 2)):
        calls[f"{how}, {workers} workers"] = partial(epoch, images, workers)
    times = side_by_side(calls, runs=3)
    return [
        {"what": f"loader, {shown}, {name}", "value": f"{count / taken.median:.0f} images/s"}
        for name, taken in times.items()
    ]


def beside_training(folder: Path, settings: Settings, count: int = 256) -> list[dict[str, Any]]:
    """An epoch of real training steps, with images from files and with one batch that is in memory already."""
    folder.mkdir()
    images = dataset(manifest(draw_images(folder, count)), settings, settings.data.decode_margin)
    size, batch = settings.data.image_size, settings.data.batch_size
    step = training_step(settings, LABELS)
    ready = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last), torch.zeros(batch, LABELS)
    cpu = torch.device("cpu")

    def from_files(workers: int) -> None:
        for given in training_loader(images, batch_size=batch, seed=0, epoch=0, workers=workers):
            step(on_device(given["image"], cpu), given["target"])

    def from_memory() -> None:
        for _ in range(count // batch):
            step(*ready)

    calls: dict[str, Run] = {"memory": from_memory} | {f"{n}": partial(from_files, n) for n in (0, 1, 2)}
    times: dict[str, Times] = side_by_side(calls, runs=3)
    what = f"an epoch of training, Lite0, VOC preset, {count} JPEG files"
    return [
        {
            "what": f"{what}: images/s of the training step alone",
            "value": f"{count / times['memory'].median:.0f} images/s",
        },
        *(
            {
                "what": f"{what}: images from files, {workers} workers, over images in memory",
                "slow": str(times[workers]),
                "fast": str(times["memory"]),
                "ratio": ratio(times[workers], times["memory"]),
            }
            for workers in ("0", "1", "2")
        ),
    ]


def measure() -> list[dict[str, Any]]:
    """All rows."""
    settings = preset_with("voc2007_lite")
    torch.manual_seed(0)
    np.random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [
            *rates(folder / "small", settings, (500, 375), 256, "224 px from 500 x 375"),
            *rates(folder / "large", settings, (4000, 3000), 64, "224 px from 4000 x 3000"),
            *beside_training(folder / "beside", settings),
        ]


if __name__ == "__main__":
    for row in measure():
        print(row)
