"""Transforms: evaluation is the same for every kind of input, and training follows the seed."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from msrn.data.decode import open_image
from msrn.data.transforms import VIEWS, MultiScaleCrop, Preprocessing, View, eval_transform, train_transform
from msrn.errors import MsrnError

AUGMENTATIONS = ("published", "modern", "light", "crops", "flip", "none")


def noise(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_evaluation_is_the_same_through_every_door(tmp_path: Path, resize: str) -> None:
    transform = eval_transform(Preprocessing(size=32, resize=resize))
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(noise(), "JPEG"))
    with path.open("rb") as file, Image.open(path) as lazy:
        doors: list[Any] = [path, str(path), path.read_bytes(), file, lazy, Image.open(io.BytesIO(path.read_bytes()))]
        tensors = [transform(open_image(door)) for door in doors]
    assert all(torch.equal(tensor, tensors[0]) for tensor in tensors)
    assert (tensors[0].shape, tensors[0].dtype, type(tensors[0])) == ((3, 32, 32), torch.float32, torch.Tensor)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_squash_is_torchvisions_resize_and_normalise(interpolation: str) -> None:
    preprocessing = Preprocessing(size=32, interpolation=interpolation, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    resized = v2.functional.resize(noise(), [32, 32], InterpolationMode(interpolation))
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
    expected = (pixels - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(eval_transform(preprocessing)(noise()), expected)


def test_crop_takes_the_centre_square() -> None:
    image = Image.new("RGB", (100, 40), (255, 0, 0))
    image.paste((0, 255, 0), (30, 0, 70, 40))  # the centre square is green, all else red
    preprocessing = Preprocessing(size=16, resize="crop", crop_fraction=1.0, mean=(0, 0, 0), std=(1, 1, 1))
    inside = eval_transform(preprocessing)(image)[:, :, 1:-1]  # the filter reaches a little over the edge
    assert inside[1].min() == 1
    assert inside[0].max() == 0


def test_a_sliver_of_an_image_stays_small() -> None:
    for resize in ("squash", "crop"):
        preprocessing = Preprocessing(size=16, resize=resize)
        assert eval_transform(preprocessing)(Image.new("RGB", (60_000, 1))).shape == (3, 16, 16)


def test_the_published_crop_takes_the_published_sides_and_places() -> None:
    seen: set[tuple[int, ...]] = set()

    class Image:
        size, width, height = (180, 100), 180, 100

        def resize(self, size: tuple[int, int], resample: int, box: tuple[int, ...]) -> None:
            seen.add(box)

    crop = MultiScaleCrop(32)
    torch.manual_seed(0)
    for _ in range(4000):
        crop(Image())
    sizes = {(right - left, bottom - top) for left, top, right, bottom in seen}
    sides = (100, 90, 80, 70, 60)
    assert sizes == {(w, h) for w in sides for h in sides if abs(w - h) <= 20}
    places = {
        (left / (180 - 80), top / (100 - 80)) for left, top, right, bottom in seen if right - left == bottom - top == 80
    }
    quarters = {(x / 4, y / 4) for x in (0, 2, 4) for y in (0, 2, 4)} | {(x / 4, y / 4) for x in (1, 3) for y in (1, 3)}
    assert places == quarters
    assert len(quarters) == 13


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(60, 40), (7, 300), (1, 1)])
def test_training_transforms_follow_the_seed_and_give_finite_squares(augment: str, size: tuple[int, int]) -> None:
    transform = train_transform(Preprocessing(size=24), augment)
    image = Image.new("RGB", size, (20, 200, 90))
    image.putpixel((0, 0), (255, 0, 0))
    for seed in range(5):
        first, second = (_seeded(transform, image, seed) for _ in range(2))
        assert (first.shape, first.dtype) == ((3, 24, 24), torch.float32)
        assert torch.isfinite(first).all()
        assert torch.equal(first, second)


@pytest.mark.parametrize("augment", AUGMENTATIONS[:3])
def test_training_transforms_vary_and_survive_pickling(augment: str) -> None:
    transform = train_transform(Preprocessing(size=24), augment)
    tensors = [_seeded(transform, noise(), seed) for seed in range(4)]
    assert not any(torch.equal(tensors[0], other) for other in tensors[1:])
    copied = pickle.loads(pickle.dumps(transform))  # as a worker process gets it
    assert torch.equal(_seeded(copied, noise(), 0), tensors[0])


def test_without_augmentation_training_sees_what_evaluation_sees() -> None:
    preprocessing = Preprocessing(size=24)
    assert torch.equal(train_transform(preprocessing, "none")(noise()), eval_transform(preprocessing)(noise()))


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_views_are_parts_of_what_evaluation_shows(resize: str) -> None:
    preprocessing = Preprocessing(size=24, resize=resize, crop_fraction=1.0, mean=(0, 0, 0), std=(1, 1, 1))
    image = noise(80, 50)
    corner, size = ((0, 0), (80, 50)) if resize == "squash" else ((15, 0), (50, 50))  # of the part that is shown
    for view in VIEWS["crops"]:
        fractions = np.array([view.left, view.top, view.left + view.side, view.top + view.side])
        box = np.tile(corner, 2) + fractions * np.tile(size, 2)
        resized = image.resize((24, 24), Image.Resampling.BILINEAR, box=tuple(box.tolist()))
        pixels = np.asarray(resized)[:, ::-1] if view.mirrored else np.asarray(resized)
        expected = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
        torch.testing.assert_close(eval_transform(preprocessing, view)(image), expected, atol=1.01 / 255, rtol=0)


def test_the_views_are_the_whole_the_corners_and_the_centre_each_also_mirrored() -> None:
    parts = {(round(view.left, 6), round(view.top, 6), view.side) for view in VIEWS["crops"]}
    assert parts == {(0, 0, 1), *((x, y, 0.8) for x in (0, 0.2) for y in (0, 0.2)), (0.1, 0.1, 0.8)}
    assert len(set(VIEWS["crops"])) == 12
    assert VIEWS["flip"] == VIEWS["crops"][:2]
    assert VIEWS["one"] == (View(),)


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(MsrnError, match="published, modern, light, flip, crops or none"):
        train_transform(Preprocessing(), "heavy")


def test_preprocessing_is_the_same_after_json() -> None:
    preprocessing = Preprocessing(size=224, resize="crop", interpolation="bicubic", mean=(0.1, 0.2, 0.3))
    assert Preprocessing.model_validate_json(preprocessing.model_dump_json()) == preprocessing


def _seeded(transform: Callable[[Image.Image], torch.Tensor], image: Image.Image, seed: int) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(image)
