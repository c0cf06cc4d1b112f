"""Parquet and arrow files with images in them, as Hugging Face's datasets writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from msrn.data.manifest import Manifest
from msrn.data.readers.parquet import Options, read
from msrn.errors import DataError
from msrn.labels.space import LabelSpace


def read_parquet(path: Path, labels: LabelSpace | None = None, **options: Any) -> Manifest:
    return read(Options(**options), "", str(path), labels)


IMAGE = [{"bytes": b"one", "path": "1.jpg"}, {"bytes": b"two", "path": None}, {"bytes": b"three", "path": ""}]
CLASSES = {"names": ["sea", "cat", "dog"], "_type": "ClassLabel"}


def write(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None) -> Path:
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return path


def states(data: Manifest) -> list[list[int]]:
    return data.codes().tolist()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize(
    "feature",
    [
        {"feature": CLASSES, "_type": "Sequence"},
        {"feature": CLASSES, "_type": "List"},
        {"feature": CLASSES, "length": -1, "_type": "LargeList"},
        [CLASSES],
    ],
)
def test_lists_of_class_numbers_get_the_names_of_the_schema_in_its_order(
    tmp_path: Path, suffix: str, feature: Any
) -> None:
    features = {"image": {"_type": "Image"}, "labels": feature}
    path = write(tmp_path / f"t{suffix}", {"image": IMAGE, "labels": [[1, 2], [], None]}, features)
    data = read_parquet(path)
    assert data.labels.names == ("sea", "cat", "dog")
    assert states(data) == [[0, 1, 1], [0, 0, 0], [-1, -1, -1]]
    assert [data.image_bytes(index) for index in range(3)] == [b"one", b"two", b"three"]


def test_one_class_number_per_image_and_minus_one_for_not_labelled(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"image": IMAGE, "kind": [2, 0, -1], "width": [1, 2, 3]}, {"kind": CLASSES})
    assert states(read_parquet(path)) == [[0, 0, 1], [1, 0, 0], [-1, -1, -1]]


@pytest.mark.parametrize(
    ("columns", "names", "expected"),
    [
        ({"tags": [["cat", "big dog"], [], None]}, ("big dog", "cat"), [[1, 1], [0, 0], [-1, -1]]),
        ({"tags": ["cat|big dog", "-", None]}, ("big dog", "cat"), [[1, 1], [0, 0], [-1, -1]]),
        ({"label": ["cat", "dog", ""], "id": [1, 2, 3]}, ("cat", "dog"), [[1, 0], [0, 1], [-1, -1]]),
        ({"cat": [1, 0, None], "dog": [True, False, True]}, ("cat", "dog"), [[1, 1], [0, 0], [-1, 1]]),
        ({"positives": [["a"], [], None], "difficult": [["b"], [], []], "unknown": [[], ["a"], []]},
         ("a", "b"), [[1, 2], [-1, 0], [-1, -1]]),
        ({"tags": [["a"], [], None], "unknown": [["b"], ["a", "b"], None]}, ("a", "b"), [[1, -1], [-1, -1], [-1, -1]]),
        ({"a": [1.0, float("nan"), 0.0], "b": [None, 0.0, 1.0]}, ("a", "b"), [[1, -1], [-1, 0], [0, 1]]),
    ],
)  # fmt: skip
def test_names_and_columns_mean_what_they_mean_in_tables(
    tmp_path: Path, columns: dict[str, Any], names: tuple[str, ...], expected: list[list[int]]
) -> None:
    data = read_parquet(write(tmp_path / "t.parquet", {"image": IMAGE, **columns}))
    assert (data.labels.names, states(data)) == (names, expected)


def test_images_may_be_plain_bytes_and_columns_may_be_named(tmp_path: Path) -> None:
    columns = {"thumb": [b"t", b"u"], "img": [b"x", b"y"], "n/a": [b"v", b"w"], "what": ["a/b", "b"]}
    write(tmp_path / "train-0.parquet", columns)
    data = read(Options(label_column="what", delimiter="/"), str(tmp_path), "train", None)
    assert (data.split, data.image_bytes(1), states(data)) == ("train", b"y", [[1, 1], [0, 1]])
    chosen = Options(label_column="what", delimiter="/", image_column="n/a")
    data = read(chosen, str(tmp_path), "train", None)
    assert data.image_bytes(1) == b"w"


def test_columns_follow_the_label_set_that_is_passed(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"image": IMAGE, "label": [2, 0, 1]}, {"label": CLASSES})
    data = read_parquet(path, LabelSpace(["dog", "cat", "sofa", "sea"]))
    assert states(data) == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]


def test_the_files_of_a_split_are_one_manifest(tmp_path: Path) -> None:
    for number in range(2):
        columns = {"image": [{"bytes": b"%d" % number}], "label": [["cat", "dog"][number]]}
        write(tmp_path / "data" / f"train-{number:05}-of-00002.parquet", columns)
    data = read(Options(), str(tmp_path), "train", None)
    assert [data.image_bytes(index) for index in range(2)] == [b"0", b"1"]
    assert states(data) == [[1, 0], [0, 1]]
    data.write(tmp_path / "m.jsonl")
    assert Manifest.read(tmp_path / "m.jsonl").image_bytes(1) == b"1"


def test_a_saved_folder_is_read_by_its_own_list_of_files(tmp_path: Path) -> None:
    saved = tmp_path / "saved" / "train"
    for name, value in (("data-00001-of-00002", b"b"), ("data-00000-of-00002", b"a"), ("cache-1f", b"stale")):
        write(saved / f"{name}.arrow", {"image": [{"bytes": value}], "label": [value.decode()]})
    files = [{"filename": f"data-0000{number}-of-00002.arrow"} for number in range(2)]
    (saved / "state.json").write_text(json.dumps({"_data_files": files, "_indices_data_files": None}))
    for root, split in ((tmp_path / "saved", "train"), ("", str(saved))):
        data = read(Options(), str(root), split, None)
        assert [data.image_bytes(index) for index in range(len(data))] == [b"a", b"b"]
    (saved / "state.json").write_text(json.dumps({"_data_files": files, "_indices_data_files": [{"filename": "i"}]}))
    with pytest.raises(DataError, match="flatten_indices"):
        read(Options(), str(saved), "", None)
    (saved / "state.json").write_text("[]")
    with pytest.raises(DataError, match="cannot be read"):
        read(Options(), str(saved), "", None)


@pytest.mark.parametrize(
    ("columns", "features", "message"),
    [
        ({"label": [0, 1, 2]}, None, "no class names are known"),
        ({"label": [0, 3, 2]}, {"label": CLASSES}, "numbers from 0 to 2, got 3"),
        ({"label": [[0], [1, -1], []]}, {"label": {"feature": CLASSES}}, "got [1, -1]"),
        ({"label": [["a"], ["a", "a"], []]}, None, "a label twice"),
        ({"label": [[None], ["a"], []]}, None, "a list of names"),
        ({"caption": ["a", "b", "c"], "id": [1, 2, 3]}, None, "expected 1, 0 or nothing"),
    ],
)
def test_labels_that_mean_nothing_are_reported_by_file_and_row(
    tmp_path: Path, columns: dict[str, Any], features: dict[str, Any] | None, message: str
) -> None:
    path = write(tmp_path / "t.parquet", {"image": IMAGE, **columns}, features)
    with pytest.raises(DataError) as caught:
        read_parquet(path)
    assert any(message in problem.message for problem in caught.value.problems)
    assert all(problem.where.startswith(f"{path}, row ") for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("columns", "reader", "message"),
    [
        ({"image": ["1.jpg"], "label": ["a"]}, {}, "expected a column of image bytes"),
        ({"image": [b"x"], "label": ["a"]}, {"label_column": "labl"}, "no column 'labl'"),
        ({"image": [b"x"], "label": ["a"]}, {"image_column": "imag"}, "no column 'imag'"),
        ({"image": [b"x"]}, {}, "got one column"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.string())}, {}, "no images"),
    ],
)
def test_files_without_the_columns_needed_are_refused(
    tmp_path: Path, columns: dict[str, Any], reader: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_parquet(write(tmp_path / "t.parquet", columns), **reader)


def test_files_of_one_split_must_have_the_same_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": [b"x"], "label": ["a"]})
    write(tmp_path / "b.parquet", {"image": [b"x"], "tag": ["a"]})
    with pytest.raises(DataError, match="the same columns"):
        read(Options(), str(tmp_path), "*.parquet", None)


def test_a_broken_schema_of_class_names_is_no_crash(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"info": {"features": {"label": {"_type": "ClassLabel", "names": [1]}}}}'):
        table = pa.table({"image": [b"x"], "label": ["a"]}).replace_schema_metadata({"huggingface": text})
        pq.write_table(table, tmp_path / "t.parquet")
        assert read_parquet(tmp_path / "t.parquet").labels.names == ("a",)
