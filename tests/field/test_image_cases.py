"""Image files as they are met in the field: damage outside the pixels, other formats, files cut short, odd ranges."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msrn.audit.probe import probe
from msrn.data.decode import image_header, open_image
from msrn.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def encoded(kind: str, array: np.ndarray = PIXELS, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, added: bytes) -> bytes:
    return png[:33] + added + png[33:]


LARGE = zlib.compress(b"x" * 80_000_000)


@pytest.mark.parametrize(
    "added",
    [
        chunk(b"zTXt", b"settings\0\0" + LARGE),
        chunk(b"iTXt", b"settings\0\1\0\0\0" + LARGE),
        chunk(b"iCCP", b"profile\0\0" + LARGE),
        chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03 not a TIFF"),
        chunk(b"tEXt", b"a\0b")[:-4] + b"\0\0\0\0",
    ],
    ids=["zTXt", "iTXt", "iCCP", "eXIf", "wrong CRC of a text"],
)
def test_chunks_beside_the_pixels_do_not_refuse_a_png(tmp_path: Path, added: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(with_chunk(encoded("PNG"), added))
    assert np.array_equal(np.asarray(open_image(path)), PIXELS)
    assert image_header(path) == ("PNG", (32, 24), 1)
    assert probe(str(path)).problem == ""


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nothing", b"Exif\0\0MM\0*\0\0\0\x08\0\x01"]
)
def test_malformed_exif_is_no_error_to_check_and_predict(tmp_path: Path, exif: bytes) -> None:
    jpeg = encoded("JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    assert open_image(path).size == (32, 24)
    assert (probe(str(path)).problem, probe(str(path)).kind) == ("", "JPEG")


def test_a_jpeg_without_its_end_mark_is_whole_and_one_cut_short_is_not(tmp_path: Path) -> None:
    jpeg = encoded("JPEG", quality=90)
    assert jpeg.endswith(b"\xff\xd9")
    whole = np.asarray(open_image(jpeg))
    assert np.array_equal(np.asarray(open_image(jpeg[:-2])), whole)
    for cut in (jpeg[:-12], jpeg[: len(jpeg) * 9 // 10], encoded("JPEG", progressive=True)[:-2]):
        with pytest.raises(DataError, match="truncated"):
            open_image(cut)


@pytest.mark.parametrize(
    ("content", "what", "advice"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC", "pillow-heif"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "djxl"),
        (b"<!DOCTYPE html><html></html>", "a web page", "download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (b"<svg xmlns='x'/>", "SVG", "PNG"),
        (b"", "an empty file", "again"),
        (b'{"message": "Not Found"}', "error message of a server", "fetch"),
    ],
)
def test_files_that_are_no_image_are_named_with_a_way_out(
    tmp_path: Path, content: bytes, what: str, advice: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_image(path)
    assert what in caught.value.message
    assert advice in caught.value.hint


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(DataError, match="without pixels"):
        open_image(Image.new("RGB", (30, 0)))


def test_declared_12_bit_values_are_scaled_from_their_own_range() -> None:
    values = np.array([[0, 2048, 4095]], np.uint16)
    png = with_chunk(encoded("PNG", values), chunk(b"sBIT", b"\x0c"))
    assert np.asarray(open_image(png))[0, :, 0].tolist() == [0, 128, 255]
    assert np.asarray(open_image(encoded("PNG", values)))[0, :, 0].tolist() == [0, 8, 16]  # nothing is declared
    scaled = with_chunk(encoded("PNG", values * 16), chunk(b"sBIT", b"\x0c"))
    assert np.asarray(open_image(scaled))[0, :, 0].tolist() == [0, 128, 255]
    tiff = io.BytesIO()
    Image.fromarray(values).save(tiff, "TIFF", tiffinfo={281: 4095})
    assert np.asarray(open_image(tiff.getvalue()))[0, :, 0].tolist() == [0, 128, 255]


def test_the_clear_value_of_16_bit_greys_is_white() -> None:
    values = np.array([[0, 1000, 65535]], np.uint16)
    png = with_chunk(encoded("PNG", values), chunk(b"tRNS", struct.pack(">H", 1000)))
    assert np.asarray(open_image(png))[0, :, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (20000, 3)])
def test_extreme_shapes_are_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", size, (9, 9, 9)).save(path)
    assert open_image(path).size == size
    assert probe(str(path)).problem == ""
