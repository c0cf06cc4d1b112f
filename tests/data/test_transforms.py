"""Opening pictures of every kind, one evaluation path for every door, and the training transforms."""

from __future__ import annotations

import contextlib
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

from msrn.data.transforms import MultiScaleCrop, Preprocessing, eval_transform, open_image, train_transform
from msrn.errors import DataError, MsrnError

AUGMENTATIONS = ("published", "modern", "light", "flip", "none")
ORIENTATION = 0x0112


def noise(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# Each orientation tag, and the operation that a camera held that way has undone.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("tag", sorted(TURNS))
def test_exif_orientation_is_honoured(tag: int) -> None:
    upright = noise()
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    stored = encoded(upright.transpose(TURNS[tag]), "PNG", exif=exif)
    assert open_image(stored).tobytes() == upright.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_usual_kinds_open_as_rgb(kind: str) -> None:
    opened = open_image(encoded(noise(), kind))
    assert (opened.mode, opened.size) == ("RGB", (60, 40))


def test_transparency_becomes_white() -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    half = Image.new("LA", (4, 4), (0, 128))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9] * 256)
    assert open_image(encoded(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(encoded(half, "PNG")).getpixel((0, 0)) == (127, 127, 127)
    assert open_image(encoded(palette, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    keyed = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert open_image(keyed).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (200, 1), (32896, 128), (65535, 255)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_greys_keep_their_brightness(kind: str, value: int, expected: int) -> None:
    grey = Image.fromarray(np.full((4, 4), value, np.uint16))
    assert open_image(encoded(grey, kind)).getpixel((1, 1)) == (expected,) * 3


def test_grey_and_cmyk_become_rgb() -> None:
    assert open_image(encoded(Image.new("L", (4, 4), 77), "PNG")).getpixel((0, 0)) == (77, 77, 77)
    assert open_image(encoded(Image.new("1", (4, 4), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    cyan = open_image(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG")).getpixel((4, 4))
    assert isinstance(cyan, tuple)
    assert np.allclose(cyan, (0, 255, 255), atol=3)


def test_numbers_without_a_known_range_are_refused() -> None:
    with pytest.raises(DataError, match="range of values"):
        open_image(encoded(Image.new("F", (4, 4)), "TIFF"))


BAD: dict[str, Callable[[], bytes]] = {
    "cut JPEG": lambda: encoded(noise(200, 200), "JPEG")[:2000],
    "cut PNG": lambda: encoded(noise(200, 200), "PNG")[:2000],
    "cut WEBP": lambda: encoded(noise(200, 200), "WEBP")[:500],
    "text": lambda: b"hello",
    "nothing": lambda: b"",
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(BAD[name]())
    with pytest.raises(DataError) as caught:
        open_image(path)
    assert caught.value.where == str(path)
    with pytest.raises(DataError):
        open_image(path.read_bytes())


def test_a_damaged_file_is_an_error_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        whole = encoded(noise(), kind)
        for _ in range(25):
            broken = bytearray(whole)
            for place in rng.integers(0, len(whole), 6):
                broken[place] = int(rng.integers(256))
            with contextlib.suppress(DataError):
                assert open_image(bytes(broken), max_pixels=1_000_000).mode == "RGB"


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no file") as caught:
        open_image(tmp_path / "absent.jpg")
    assert caught.value.where == str(tmp_path / "absent.jpg")
    with pytest.raises(DataError):
        open_image(tmp_path)


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(DataError, match="at most 2,399 pixels, got 60 x 40"):
        open_image(encoded(noise(), "PNG"), max_pixels=2399)
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")  # 400 million pixels in 50 kB
    with pytest.raises(DataError, match="at most"):
        open_image(bomb)


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


def test_a_sliver_of_a_picture_stays_small() -> None:
    for resize in ("squash", "crop"):
        preprocessing = Preprocessing(size=16, resize=resize)
        assert eval_transform(preprocessing)(Image.new("RGB", (60_000, 1))).shape == (3, 16, 16)


def test_the_published_crop_takes_the_published_sides_and_places() -> None:
    seen: set[tuple[int, ...]] = set()

    class Picture:
        size, width, height = (180, 100), 180, 100

        def resize(self, size: tuple[int, int], resample: int, box: tuple[int, ...]) -> None:
            seen.add(box)

    crop = MultiScaleCrop(32)
    torch.manual_seed(0)
    for _ in range(4000):
        crop(Picture())
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


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(MsrnError, match="published, modern, light, flip or none"):
        train_transform(Preprocessing(), "heavy")


def test_preprocessing_is_the_same_after_json() -> None:
    preprocessing = Preprocessing(size=224, resize="crop", interpolation="bicubic", mean=(0.1, 0.2, 0.3))
    assert Preprocessing.model_validate_json(preprocessing.model_dump_json()) == preprocessing


def _seeded(transform: Callable[[Image.Image], torch.Tensor], image: Image.Image, seed: int) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(image)
