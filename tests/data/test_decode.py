"""Decoding: images of every format and mode to upright RGB, and refusals that name the file."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msrn.data.decode import open_image
from msrn.errors import DataError

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


def test_devices_and_pipes_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(DataError, match="pipe or device"):
            open_image(path)


def test_a_file_larger_than_any_image_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(DataError, match="at most 268,435,456 bytes"):
        open_image(tmp_path / "a.png")


def test_damage_in_a_tiff_is_told_by_our_error_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (40, 40), 7).save(tmp_path / "a.tiff", compression="tiff_adobe_deflate")
    content = (tmp_path / "a.tiff").read_bytes()
    place = content.index(b"\x78")  # the pixels' first byte
    (tmp_path / "a.tiff").write_bytes(content[:place] + b"\xff\xff" + content[place + 2 :])
    with pytest.raises(DataError):
        open_image(tmp_path / "a.tiff")
    assert capfd.readouterr() == ("", "")
