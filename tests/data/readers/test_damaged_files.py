"""Small copies of the damaged files that a fuzzer found, and what must be said of them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from msrn import registry
from msrn.data.archives.parquet import columns_of
from msrn.data.archives.tar import tar_members
from msrn.data.cells import items_of
from msrn.data.manifest import MAX_ENTRIES, Manifest, require_entries
from msrn.data.readers.coco import Options, read
from msrn.data.readers.table import read_table
from msrn.errors import DataError
from msrn.labels.space import LabelSpace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path


def by(reader: str, folder: Path, split: str) -> Manifest:
    options = registry.options_class("reader", reader)()
    manifest: Manifest = registry.load("reader", reader)(options, str(folder), split, None)
    return manifest


@pytest.mark.parametrize(
    "tree",
    [
        [{"data": {"image": "a.png"}, "annotations": 5}],
        [{"data": {"image": "a.png"}, "annotations": [{"result": 5}]}],
        [{"imageGcsUri": "a.png", "classificationAnnotations": 5}],
        [{"source-ref": "a.png", "job": [0], "job-metadata": {"class-map": [1]}}],
        [{"source-ref": "a.png", "job": {"annotations": 5}, "job-metadata": {}}],
        [{"originalImageUri": "a.png", "tags": [], "regions": 5}],
        {"items": [{"id": "a.png", "annotations": 5}], "categories": {"label": {"labels": 5}}},
        {"a.png1": {"filename": "a.png", "regions": 5, "file_attributes": {}}},
        [{}],
    ],
)
def test_an_export_whose_parts_are_no_lists_is_refused(folder: Path, tree: Any) -> None:
    (folder / "train.json").write_text(json.dumps(tree))
    with pytest.raises(DataError):
        read_table(folder / "train.json")


def test_python_in_a_cell_is_read_without_a_warning() -> None:
    assert items_of("['\\d', 'a']") == ["\\d", "a"]  # a warning would be an error here


def test_a_class_number_with_two_signs_is_a_name(folder: Path) -> None:
    with tarfile.open(folder / "train.tar", "w") as tar:
        for name, content in (("1.png", (folder / "a.png").read_bytes()), ("1.cls", b"--5")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert by("webdataset", folder, "train").labels.names == ("--5",)


def test_a_zero_byte_in_an_image_id_is_reported(folder: Path) -> None:
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\0b\n")
    (folder / "Annotations/c.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match="null byte"):
        by("voc", folder, "train")


def test_a_label_of_labelme_that_is_no_name_is_reported(folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps({"shapes": [{"label": [1]}], "imagePath": "a.png"}))
    with pytest.raises(DataError, match="list of names"):
        by("labelme", folder, ".")


def test_a_class_number_of_yolo_of_thousands_of_digits_is_reported(folder: Path) -> None:
    (folder / "data.yaml").write_text("names: [sea]")
    (folder / "a.txt").write_text("9" * 5000 + " 0 0 1 1\n")
    with pytest.raises(DataError, match="expected a class number"):
        by("yolo", folder, ".")


def test_many_categories_of_coco_are_compared_once_each(folder: Path) -> None:
    categories = [{"id": n, "name": str(n), "supercategory": "all"} for n in range(20_000)]
    tree = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "category_id": 3}]}
    (folder / "train.json").write_text(json.dumps({**tree, "categories": [*categories, {"id": -1, "name": "all"}]}))
    found = read(Options(), str(folder), "train.json", None)
    assert len(found.labels) == 20_000  # without the category above all; pairs of them would take minutes
    assert found.records[0].positives == ("3",)


def test_a_manifest_nested_deep_or_of_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("[" * 50_000)
    with pytest.raises(DataError, match="header line"):
        Manifest.read(path)
    path.write_text('{"msrn_manifest": 1, "labels": ["\\ud800"]}\n')
    with pytest.raises(DataError, match="no text"):
        Manifest.read(path)


def test_more_entries_than_fit_are_refused_before_they_are_made() -> None:
    require_entries(MAX_ENTRIES, 1, "train")
    with pytest.raises(DataError, match="at most 2,147,483,648 entries"):
        require_entries(MAX_ENTRIES // 2 + 1, 2, "train")


@pytest.mark.parametrize("size", [b"\xff" * 10 + b"\xfe\0", b"\x80" + b"\x7f" * 11], ids=["below 0", "8 EB"])
def test_a_tar_member_of_an_absurd_size_is_refused(tmp_path: Path, size: bytes) -> None:
    block = bytearray(tarfile.TarInfo("a.png").tobuf() + bytes(1024))
    block[124:136], block[148:156] = size, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    (tmp_path / "a.tar").write_bytes(block)
    with pytest.raises(DataError, match="tar file"):
        tar_members(tmp_path / "a.tar")


def test_a_parquet_file_of_more_rows_than_bytes_is_refused(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"image": pyarrow.array([b"x"] * 100_000)})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="100,000 rows in"):
        columns_of(tmp_path / "a.parquet")


def test_label_sets_have_a_largest_size_and_hold_text() -> None:
    with pytest.raises(Exception, match="at most 100,000 labels"):
        LabelSpace(str(n) for n in range(100_001))
    for name in ("a\0", "\x1b[2J", "\ud800", "\ufeffa"):
        with pytest.raises(Exception, match="no text"):
            LabelSpace([name])
