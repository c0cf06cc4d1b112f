"""Kinds of images: every format that is decoded, from a path, from bytes, and from archives."""

from __future__ import annotations

import functools
import io
import json
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from kinds import Kind, damaged
from PIL import Image

from msrn.data.archives.members import images_in_archive
from msrn.data.decode import MAX_PIXELS, image_header, open_image
from msrn.data.image_files import IMAGE_FORMATS
from msrn.errors import DataError

PIXELS = (np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8) // 64 * 64).repeat(2, 0).repeat(2, 1)
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "a drawing"


def encoded(kind: str, array: np.ndarray = PIXELS, mode: str = "", **options: Any) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(out, kind, **options)
    return out.getvalue()


def check_image(image: Image.Image) -> None:
    """What ``open_image`` promises: RGB, upright, within the bound."""
    assert image.mode == "RGB", image.mode
    assert 0 < image.width * image.height <= MAX_PIXELS, image.size
    assert np.asarray(image).shape == (image.height, image.width, 3)


def read_image(folder: Path) -> None:
    """All ways to open an image give the same, or refuse it."""
    path = next(path for path in folder.iterdir() if path.is_file())
    content = path.read_bytes()
    with suppress(DataError):
        image_header(path)
    with suppress(DataError):
        check_image(open_image(content, min_side=4))
    image = open_image(path)
    check_image(image)
    size = image.size
    del image
    assert size == open_image(io.BytesIO(content)).size


def frames() -> list[Image.Image]:
    """New ones: saving leaves its options in an image."""
    return [Image.fromarray(PIXELS[::-1]), Image.fromarray(PIXELS[:, ::-1])]


VARIANTS: dict[str, Callable[[], bytes]] = {
    "jpeg.jpg": lambda: encoded("JPEG", exif=EXIF),
    "progressive.jpg": lambda: encoded("JPEG", progressive=True, quality=60),
    "cmyk.jpg": lambda: encoded("JPEG", mode="CMYK"),
    "mpo.jpg": lambda: encoded("MPO", save_all=True, append_images=frames()),
    "rgb.png": lambda: encoded("PNG", exif=EXIF),
    "grey16.png": lambda: encoded("PNG", PIXELS[..., 0].astype(np.uint16) * 200, transparency=0),
    "palette.png": lambda: encoded("PNG", mode="P", transparency=1),
    "animated.png": lambda: encoded("PNG", save_all=True, append_images=frames()),
    "lossy.webp": lambda: encoded("WEBP", exif=EXIF),
    "lossless.webp": lambda: encoded("WEBP", mode="RGBA", lossless=True),
    "animated.webp": lambda: encoded("WEBP", save_all=True, append_images=frames()),
    "plain.gif": lambda: encoded("GIF"),
    "animated.gif": lambda: encoded("GIF", save_all=True, append_images=frames(), duration=10),
    "rgb.bmp": lambda: encoded("BMP"),
    "palette.bmp": lambda: encoded("BMP", mode="P"),
    "raw.tiff": lambda: encoded("TIFF"),
    "lzw.tiff": lambda: encoded("TIFF", compression="tiff_lzw", exif=EXIF),
    "jpeg.tiff": lambda: encoded("TIFF", compression="jpeg"),
    "deflate16.tiff": lambda: encoded("TIFF", PIXELS[..., 0].astype(np.uint16), compression="tiff_adobe_deflate"),
    "fax.tiff": lambda: encoded("TIFF", mode="1", compression="group4"),
    "pages.tiff": lambda: encoded("TIFF", save_all=True, append_images=frames()),
    "rgb.ppm": lambda: encoded("PPM"),
    "plain.pgm": lambda: b"P2\n4 3\n255\n" + b"0 1 2 3\n" * 3,
    "still.avif": lambda: encoded("AVIF", exif=EXIF),
    "animated.avifs": lambda: encoded("AVIF", save_all=True, append_images=frames()),
    "rgb.jp2": lambda: encoded("JPEG2000"),
    "rgb.j2k": lambda: encoded("JPEG2000", irreversible=True, num_resolutions=2),
}
assert all(any(name.endswith(suffixes) for name in VARIANTS) for suffixes in IMAGE_FORMATS.values())


def tar_of(members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


SMALL = encoded("PNG", PIXELS[:8, :8])


def shard() -> bytes:
    return tar_of({"a.png": SMALL, "dog/b.jpg": encoded("JPEG", PIXELS[:8, :8]), "c.png": SMALL, "note.txt": b"x"})


def parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    columns = {"image": [{"bytes": SMALL, "path": f"{n}.png"} for n in range(6)], "label": [0, 1, 0, 1, 0, 1]}
    table = pyarrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out, row_group_size=3)
    return out.getvalue()


def arrow(*, stream: bool) -> bytes:
    import pyarrow

    table = pyarrow.parquet.read_table(io.BytesIO(parquet()))
    out = io.BytesIO()
    make = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with make(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def read_archive(name: str, folder: Path) -> None:
    """Every image of an archive is right or refused; the first error is raised again once all were tried."""
    errors = []
    for member in images_in_archive(folder / name):
        try:
            check_image(open_image(member))
        except DataError as error:
            errors.append(error)
    if errors:
        raise errors[0]


FORM = {".png": "png"}
KINDS: list[Kind] = [
    damaged(
        f"image {name}",
        lambda name=name, make=make: {name: make()},
        read_image,
        forms={name: FORM.get(Path(name).suffix, "bytes")},
        share=0.7,
    )
    for name, make in VARIANTS.items()
]
ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "images.tar": (shard, "tar"),
    "images.parquet": (parquet, "bytes"),
    "file.arrow": (functools.partial(arrow, stream=False), "bytes"),
    "stream.arrow": (functools.partial(arrow, stream=True), "bytes"),
}
KINDS += [
    damaged(
        f"archive {name}",
        lambda name=name, make=make: {name: make()},
        functools.partial(read_archive, name),
        forms={name: form},
        share=2,
    )
    for name, (make, form) in ARCHIVES.items()
]
