"""What the bombs are made of: headers that promise more than their files hold, loops, and code."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from of_images import SMALL, encoded, tar_of
from of_models import bundle, sealed
from safetensors.torch import save

Reading = Callable[[Path], object]
Bomb = tuple[Callable[[], dict[str, bytes]], Reading, str]


def one(name: str, make: Callable[[], bytes], read: Reading, words: str) -> Bomb:
    return lambda: {name: make()}, read, words


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, rows: int) -> bytes:
    """A PNG that declares a size and holds some rows of zeros, packed a thousand times."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + 3 * width) * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff_of(width: int, height: int) -> bytes:
    entries = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8))
    body = b"".join(struct.pack("<HHII", *entry) for entry in (*entries, (279, 4, 1, 100)))
    return b"II*\0" + struct.pack("<IH", 8, 7) + body + struct.pack("<I", 8)  # and the next folder is this one


def webp_of(width: int, height: int) -> bytes:
    """A canvas of the extended format, with the pixels of a small image."""
    small = encoded("WEBP", lossless=True)
    canvas = struct.pack("<I", 0) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + small[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_of(count: int) -> bytes:
    """Many frames of one pixel after the first."""
    small = encoded("GIF")
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    return small[:-1] + frame * count + b";"


def pax(records: dict[str, str], repeat: int = 1) -> bytes:
    """Headers of pax before a member, several of them in a row."""
    info = tarfile.TarInfo("a.png")
    info.size, info.pax_headers = len(SMALL), records
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(SMALL))
    content = out.getvalue()
    return content[:1024] * repeat + content[1024:]


def links() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.LNKTYPE), ("c.png", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../secret.png"
            tar.addfile(info)
    return out.getvalue()


def with_size(size: bytes) -> bytes:
    """A member of another size than it has."""
    block = bytearray(tar_of({"a.png": SMALL}))
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def npy(shape: str, kind: str, data: bytes) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def zip_of(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return out.getvalue()


NAMES = npy("(4,)", "<U4", "sea\0boatx\0\0\0y\0\0\0".encode("utf-32-le"))


class Runs:
    """Unpickling it would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch out/ran",)


def safetensors_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def bundle_with(name: str, content: bytes) -> dict[str, bytes]:
    return sealed({**bundle("msrn"), name: content})


def bundle_changed(**changes: Any) -> dict[str, bytes]:
    files = dict(bundle("msrn"))
    tree = json.loads(files["bundle.json"])
    for path, value in changes.items():
        *above, last = path.split("__")
        here = tree
        for key in above:
            here = here[key]
        here[last] = value
    return sealed({**files, "bundle.json": json.dumps(tree).encode()})


def f32(name: str, start: int, end: int, shape: tuple[int, ...] = (1,)) -> dict[str, Any]:
    return {name: {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}}


def endless() -> dict[str, Any]:
    """A dictionary in itself."""
    tree: dict[str, Any] = {}
    tree["settings"] = tree
    return tree


def many_labels() -> dict[str, bytes]:
    """A bundle of 90,000 labels, whose graph would take 65 GB."""
    names = [str(number) for number in range(90_000)]
    files = bundle_changed(labels=names, thresholds=dict.fromkeys(names, 0.5))
    return sealed({**files, "label_inputs.safetensors": save({"embeddings": torch.zeros(90_000, 1)})})


def laughs(start: str, each: str, end: str) -> bytes:
    """Thirty texts, each of which names the one before twice."""
    return (start + "".join(each.format(n=n, m=n - 1) for n in range(1, 30)) + end).encode()
