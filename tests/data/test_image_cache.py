"""Cached images equal decoded ones, and a changed file counts as another image."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from msrn.bundle.read import read_bundle
from msrn.config import Settings
from msrn.data import image_cache as cache_module
from msrn.data.decode import open_image
from msrn.data.image_cache import ImageCache
from msrn.data.manifest import Manifest
from msrn.data.readers.table import read_table
from msrn.data.transforms import Preprocessing, eval_transform
from msrn.engine.trainer import train
from msrn.errors import DataError


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    generator = np.random.default_rng(0)
    for number in range(5):
        pixels = generator.integers(0, 255, (40 + number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    rows = "".join(f"{number}.jpg,{'cat' if number % 2 else 'dog'}\n" for number in range(5))
    (tmp_path / "table.csv").write_text("image,labels\n" + rows)
    return read_table(tmp_path / "table.csv")


def test_cached_images_are_those_of_the_files(manifest: Manifest, tmp_path: Path) -> None:
    counted: list[int] = []
    cache = ImageCache(manifest, tmp_path / "cache", advance=counted.append)
    assert sum(counted) == 5
    for index in range(5):
        assert np.array_equal(np.asarray(cache.image(index)), np.asarray(open_image(manifest.path(index))))


def test_only_changed_files_are_decoded_again(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ImageCache(manifest, tmp_path / "cache")
    Image.new("RGB", (30, 20), "red").save(manifest.path(3))
    decoded: list[Path] = []

    def counted(path: Path, **options: int) -> Image.Image:
        decoded.append(path)
        return open_image(path, **options)

    monkeypatch.setattr(cache_module, "open_image", counted)
    cache = ImageCache(manifest, tmp_path / "cache")
    assert decoded == [manifest.path(3)]
    assert cache.image(3).size == (30, 20)


def test_all_files_that_cannot_be_read_are_reported_at_once(manifest: Manifest, tmp_path: Path) -> None:
    for number in (1, 4):
        manifest.path(number).unlink()
    with pytest.raises(DataError) as caught:
        ImageCache(manifest, tmp_path / "cache")
    assert len(caught.value.problems) == 2


def test_training_with_the_cache_gives_the_same_bits(
    tiny: Callable[..., Settings], tiny_run: Path, tmp_path: Path
) -> None:
    for _ in range(2):  # filled, and found
        folder = tmp_path / f"run{_}"
        train(tiny(folder, data={"cache": str(tmp_path / "cache")}))
        ours = read_bundle(folder / "bundle").model.state_dict()
        theirs = read_bundle(tiny_run / "bundle").model.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def photograph(size: tuple[int, int], *, mode: str = "RGB", turned: int = 1) -> bytes:
    """A smooth JPEG, as photographs are at their pixels' scale."""
    generator = np.random.default_rng(1)
    coarse = Image.fromarray(generator.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = turned
    file = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).convert(mode).save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("side", "size"), [(601, (1600, 1200)), (600, (800, 600)), (301, (800, 600)), (150, (200, 150))]
)
def test_a_large_jpeg_is_decoded_smaller_but_never_below_the_min_side(
    mode: str, side: int, size: tuple[int, int]
) -> None:
    image = open_image(photograph((1600, 1200), mode=mode), min_side=side)
    assert image.size == size
    assert image.mode == "RGB"


def test_an_image_that_lies_on_its_side_is_turned_after_the_smaller_decode() -> None:
    assert open_image(photograph((1600, 1200), turned=6), min_side=300).size == (300, 400)


@pytest.mark.parametrize("size", [(1600, 1200), (4032, 3024)])
def test_the_network_sees_nearly_the_same_after_a_smaller_decode(size: tuple[int, int]) -> None:
    source = photograph(size)
    settings = Preprocessing(size=224, decode_margin=2)
    small = open_image(source, min_side=settings.min_side)
    assert small.width < size[0]
    transform = eval_transform(settings)
    # In units of the deviation of pixels: a step of one in 255 is about 0.017.
    difference = (transform(small) - transform(open_image(source))).abs()
    assert difference.mean() < 0.01
    assert difference.max() < 0.1
