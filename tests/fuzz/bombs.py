"""Hostile files written by hand: small on disk and large when read, endless, looped, or leading out of their folder.

Each is refused by the words that stand beside it, or read as what it is (an empty text).
"""

from __future__ import annotations

import json
import pickle
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from bomb_makers import (
    NAMES,
    Bomb,
    Runs,
    gif_of,
    laughs,
    links,
    npy,
    one,
    pax,
    png_of,
    tiff_of,
    webp_of,
    with_size,
    zip_of,
)
from bombs_of_models import MODEL_BOMBS
from kinds import Kind
from of_data_sets import IMAGES, jsonl, lines, read_split
from of_images import SMALL, check_image, encoded, frames, read_archive, read_image, tar_of
from of_labels import read_embeddings, read_graph, read_labels, read_settings
from of_models import (
    read_model_weights,
)

from msrn.data.decode import open_image
from msrn.errors import MsrnError


def table(reader: str, name: str) -> Callable[[Path], object]:
    return partial(read_split, reader=reader, split=name, options={})


read_tar, read_vectors = partial(read_archive, "images.tar"), partial(read_embeddings, "v.npz")
read_yaml, read_list = partial(read_settings, "settings.yaml"), partial(read_labels, "labels.txt")
read_pth = partial(read_model_weights, "model.pth")


def device(folder: Path) -> None:
    check_image(open_image("/dev/zero"))


XML_ENTITIES = laughs(
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "sea">',
    '<!ENTITY e{n} "&e{m};&e{m};">',
    ']><annotations><image name="a.png"><tag label="&e29;"/></image></annotations>',
)
XML_FILE = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    b"<annotation><object><name>&e;</name></object></annotation>"
)
XML_UTF_7 = b'<?xml version="1.0" encoding="utf-7"?>' + XML_FILE[21:].replace(b"<", b"+ADw-")
YAML_ALIASES = laughs("a0: &a0 [x, x]\n", "a{n}: &a{n} [*a{m}, *a{m}]\n", "data: {root: *a29}\n")
HEADER = {"msrn_manifest": 1, "labels": [], "split": "train", "source": "x"}
VOC = {"JPEGImages/a.jpg": SMALL, "ImageSets/Main/train.txt": b"a\n"}
ODD = ("\0", "\x1b[2J", "\ud800", "a\nb", "x" * 5000)

BOMBS: dict[str, Bomb] = {
    "png of 10^10 pixels": one("a.png", lambda: png_of(100_000, 100_000, 10), read_image, "pixels"),
    "png of 80 million pixels, nearly none there": one("a.png", lambda: png_of(10_000, 8_000, 1), read_image, ""),
    "png of 20 million pixels, all there": one("a.png", lambda: png_of(5_000, 4_000, 4_000), read_image, ""),
    "tiff of 10^9 pixels whose folder is its next": one("a.tiff", lambda: tiff_of(2**15, 2**15), read_image, "pixels"),
    "tiff of 80 million pixels, none there": one("a.tiff", lambda: tiff_of(10_000, 8_000), read_image, "read"),
    "webp with a canvas of 2^28 pixels": one("a.webp", lambda: webp_of(2**14, 2**14), read_image, "read"),
    "gif of 200,000 frames": one("a.gif", lambda: gif_of(200_000), read_image, ""),
    "png of 300 frames": one(
        "a.png", lambda: encoded("PNG", save_all=True, append_images=frames() * 150), read_image, ""
    ),
    "a device as an image": (lambda: {}, device, "pipe or device"),
    "tar: a name that leaves the folder": one(
        "images.tar", lambda: tar_of({"../secret.png": SMALL}), read_tar, "relative"
    ),
    "tar: an absolute name": one("images.tar", lambda: tar_of({"/etc/passwd.png": SMALL}), read_tar, "relative"),
    "tar: links and a device": one("images.tar", links, read_tar, ""),
    "tar: a sparse file of 8 GB": one(
        "images.tar",
        lambda: pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**33)}),
        read_tar,
        "tar file",
    ),
    "tar: a member of 8 EB": one("images.tar", lambda: with_size(b"\x80" + b"\x7f" * 11), read_tar, "tar file"),
    "tar: a member of -512 bytes": one(
        "images.tar",
        lambda: with_size(b"\xff" * 10 + b"\xfe\x00"),
        read_tar,
        "tar file",
    ),
    "tar: a name of pax of 8 GB": one(
        "images.tar",
        lambda: (
            with_size(b"77777777777\0").replace(b"ustar\x0000", b"ustar\x0000")[:156]
            + b"x"
            + with_size(b"77777777777\0")[157:]
        ),
        read_tar,
        "tar file",
    ),
    "tar: 3,000 headers of pax in a row": one(
        "images.tar", lambda: pax({"path": "sea.png"}, 3000), read_tar, "tar file"
    ),
    "tar: a tar file in itself": one(
        "images.tar",
        lambda: tar_of({"a.png": tar_of({"a.png": tar_of({"a.png": SMALL})})}),
        read_tar,
        "image",
    ),
    "tar: packed, and packed again": one(
        "images.tar",
        lambda: zlib.compress(zlib.compress(bytes(10**8), 9, wbits=31), 9, wbits=31),
        read_tar,
        "unpack",
    ),
    "tar: a name of 5,000 signs": one(
        "images.tar",
        lambda: tar_of({"x" * 5000 + ".png": SMALL}, tarfile.PAX_FORMAT),
        read_tar,
        "",
    ),
    "labels: a million": one(
        "labels.txt", lambda: b"\n".join(b"%d" % n for n in range(10**6)), read_list, "at most 100,000 labels"
    ),
    "labels: 90,000, each twice": one(
        "labels.txt", lambda: b"\n".join(b"%d" % (n // 2) for n in range(90_000)), read_list, "2 times"
    ),
    "labels: a name of NUL": one("labels.txt", lambda: b"sea\na\0b\n", read_list, "no text"),
    "labels: a name of a million signs": one("labels.txt", lambda: b"x" * 10**6, read_list, ""),
    "manifest: a million labels": one(
        "train.jsonl",
        lambda: jsonl({**HEADER, "labels": list(range(10**6))}),
        table("manifest", "train.jsonl"),
        "at most 100,000 labels",
    ),
    "manifest: nested 100,000 deep": one(
        "train.jsonl", lambda: b"[" * 100_000, table("manifest", "train.jsonl"), "header"
    ),
    "coco: 50,000 categories of one name": one(
        "train.json",
        lambda: json.dumps(
            {"images": [], "annotations": [], "categories": [{"id": n, "name": "sea"} for n in range(50_000)]}
        ).encode(),
        table("coco", "train.json"),
        "twice",
    ),
    "coco: 60,000 categories, 40,000 images, absent ones named": one(
        "train.json",
        lambda: json.dumps(
            {
                "images": [{"id": n, "file_name": "a.png", "neg_category_ids": []} for n in range(40_000)],
                "annotations": [{"image_id": 0, "category_id": 0}],
                "categories": [{"id": n, "name": str(n)} for n in range(60_000)],
            }
        ).encode(),
        lambda f: read_split(f, reader="coco", split="train.json", options={"repeated": "join", "empty": "keep"}),
        "",
    ),
    "coco: a number of 5,000 digits": one(
        "train.json", lambda: b'{"images": [' + b"9" * 5000 + b"]}", table("coco", "train.json"), "JSON"
    ),
    "csv: 60,000 columns": one(
        "train.csv",
        lambda: lines("image," + ",".join(f"c{n}" for n in range(60_000)), "a.png," + ",".join("1" * 60_000)),
        table("table", "train.csv"),
        "",
    ),
    "csv: a row per label, 47,000 of each": one(
        "train.csv",
        lambda: lines("image,label,confidence", *(f"{n // 2}.png,{n // 2},1" for n in range(94_000))),
        table("table", "train.csv"),
        "at most 2,147,483,648 entries",
    ),
    "csv: a cell of Python nested deep": one(
        "train.csv",
        lambda: lines("image,labels", f'a.png,"{"[" * 90_000}{"]" * 90_000}"'),
        table("table", "train.csv"),
        "",
    ),
    "csv: a cell of 10^5 signs before a number": one(
        "train.csv", lambda: lines("image,labels", f'a.png,"[{"-" * 90_000}1]"'), table("table", "train.csv"), ""
    ),
    "csv: a quotation mark left open for 10 MB": one(
        "train.csv", lambda: b'image,labels\na.png,"' + b"x" * 10**7, table("table", "train.csv"), "CSV"
    ),
    **{
        f"csv: an image named {name[:5]!r}": one(
            "train.csv",
            lambda name=name: f"image,labels\n{name}.png,sea\na.png,boat\n".encode("utf-8", "surrogatepass"),
            table("table", "train.csv"),
            "",
        )
        for name in ODD
    },
    "json lines: nested 50,000 deep": one(
        "train.jsonl", lambda: b'{"a":' * 50_000, table("table", "train.jsonl"), "deep"
    ),
    "export: 200,000 labels on one image": one(
        "train.json",
        lambda: json.dumps([{"image": "a.png", "annotations": [{"label": str(n)} for n in range(200_000)]}]).encode(),
        table("table", "train.json"),
        "at most 100,000 labels",
    ),
    "xml: a billion laughs (CVAT)": one("train.xml", lambda: XML_ENTITIES, table("table", "train.xml"), "entities"),
    "xml: nested 200,000 deep": one(
        "train.xml", lambda: b"<a>" * 200_000 + b"</a>" * 200_000, table("table", "train.xml"), ""
    ),
    "xml: an entity of a file (VOC)": (
        lambda: {**VOC, "Annotations/a.xml": XML_FILE},
        table("voc", "train"),
        "entities",
    ),
    "xml: the same in UTF-16 (VOC)": (
        lambda: {**VOC, "Annotations/a.xml": XML_FILE.decode().encode("utf-16")},
        table("voc", "train"),
        "entities",
    ),
    "xml: the same in UTF-7 (VOC)": (
        lambda: {**VOC, "Annotations/a.xml": XML_UTF_7},
        table("voc", "train"),
        "entities",
    ),
    "yaml: a billion aliases": one("settings.yaml", lambda: YAML_ALIASES, read_yaml, "aliases written out"),
    "yaml: an alias within itself": one("settings.yaml", lambda: b"data: &a {root: *a}\n", read_yaml, "aliases"),
    "yaml: nested 50,000 deep": one("settings.yaml", lambda: b"a: " + b"[" * 50_000, read_yaml, "deep"),
    "yaml: an object of Python": one(
        "settings.yaml", lambda: b"data: !!python/object/apply:os.system ['touch out/ran']\n", read_yaml, "settings"
    ),
    "yaml: 50 MB": one("settings.yaml", lambda: b"a: 1\n" * 10**7, read_yaml, "characters"),
    "yaml: a date that is none": one("settings.yaml", lambda: b"data: 2001-99-99\n", read_yaml, "month"),
    "npz: 8 GB of zeros": one(
        "v.npz",
        lambda: zip_of(labels=NAMES, vectors=npy("(4, 536870912)", "<f4", bytes(10**6))),
        read_vectors,
        "unpack",
    ),
    "npz: 10^12 names of nothing": one(
        "v.npz",
        lambda: zip_of(labels=npy("(1000000000000,)", "<U0", b""), vectors=npy("(4, 1)", "<f4", bytes(16))),
        read_vectors,
        "unpack",
    ),
    "npz: objects": one(
        "v.npz",
        lambda: zip_of(labels=NAMES, vectors=npy("(1,)", "|O", pickle.dumps(Runs()))),
        read_vectors,
        "objects",
    ),
    "npz: names that are no characters": one(
        "edges.npz",
        lambda: zip_of(labels=npy("(1,)", "<U1", b"\xff" * 4), weights=npy("(1, 1)", "<f8", bytes(8))),
        partial(read_graph, "edges.npz"),
        "no characters",
    ),
    "npz: an array with a side below 0": one(
        "edges.npz",
        lambda: zip_of(labels=NAMES, weights=npy("(-4, -4)", "<f8", bytes(128))),
        partial(read_graph, "edges.npz"),
        "shape",
    ),
    "glove: a line of 4 MB": one(
        "glove.txt", lambda: b"sea " + b"1 " * 2 * 10**6, partial(read_embeddings, "glove.txt"), ""
    ),
    **MODEL_BOMBS,
}


def make(_: Random, number: int) -> dict[str, bytes]:
    files = list(BOMBS.values())[number][0]()
    return {**IMAGES, **files} if any(name.startswith("train") for name in files) else files


class UnexpectedError(Exception):
    """A bomb was read, or refused with other words."""


def read(folder: Path) -> None:
    """The bomb that a case holds; its number is the folder's name."""
    number = int(folder.parent.name)
    name, (_, reading, words) = list(BOMBS.items())[number]
    try:
        reading(folder)
    except MsrnError as error:
        if words.lower() not in str(error).lower():
            raise UnexpectedError(f"{name}: expected {words!r}, got {error!s:.400}") from error
        raise
    finally:
        if (folder / "out" / "ran").exists():
            raise UnexpectedError(f"{name}: its code ran")
    if words:
        raise UnexpectedError(f"{name}: expected to be refused for {words!r}")


KINDS: list[Kind] = [Kind("bomb", make, read, share=0, fixed=len(BOMBS))]
