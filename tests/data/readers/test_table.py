"""The table reader: every form that a person may bring, and every mistake in it by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from msrn.data.manifest import Manifest, Record
from msrn.data.readers.table import Options, read, read_table
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

NAMES = ("a.jpg", "b.jpg", "c d.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def table(folder: Path, text: str, name: str = "train.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def positives_of(data: Manifest) -> list[tuple[str, ...]]:
    return [record.positives for record in data.records]


EXPECTED = (Record("a.jpg", ("cat", "dog")), Record("b.jpg", (), (), ("cat", "dog")), Record("c d.jpg"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "image,labels\na.jpg,cat|dog\nb.jpg,\nc d.jpg,-\n"),
        ("t.csv", "image,labels\na.jpg,cat;dog\nb.jpg,nan\nc d.jpg,-\n"),
        ("t.csv", 'image,labels\na.jpg,"cat, dog"\nb.jpg,NaN\nc d.jpg,-\n'),
        ("t.csv", "a.jpg,cat|dog\nb.jpg,\nc d.jpg,-\n"),
        ("t.csv", "Tags,weight,Path\ncat|dog,1,a.jpg\n,2,b.jpg\n-,3,c d.jpg\n"),
        ("t.csv", "\ufeffimage,labels\r\na.jpg,cat|dog\r\n\r\nb.jpg,\r\nc d.jpg,-\r\n"),
        ("t.csv", ' image , labels\n "a.jpg",cat | dog\nb.jpg, \n c d.jpg,-\n'),
        ("t.csv", "image;labels\na.jpg;cat|dog\nb.jpg;\nc d.jpg;-\n"),
        ("t.tsv", "image\tlabels\na.jpg\tcat,dog\nb.jpg\t\nc d.jpg\t-\n"),
        ("t.txt", "image\tlabels\na.jpg\tcat;dog\nb.jpg\t\nc d.jpg\t-\n"),
        ("t.csv", "image,cat,dog\na.jpg,1,1\nb.jpg,,nan\nc d.jpg,0,0\n"),
        ("t.csv", "image,cat,dog\na.jpg,1,1\nb.jpg,?,N/A\nc d.jpg,0,0\n"),
        ("t.csv", "image,labels\na.jpg,cat|dog\nb.jpg,?\nc d.jpg,-\n"),
        ("t.csv", "image,labels,Unknown\na.jpg,cat|dog,\nb.jpg,-,cat;dog\nc d.jpg,-,-\n"),
        (
            "t.jsonl",
            '{"image": "a.jpg", "labels": ["cat", "dog"]}\n'
            '{"image": "b.jpg", "labels": [], "unknown": ["cat", "dog"]}\n'
            '{"image": "c d.jpg", "labels": [], "unknown": []}\n',
        ),
        ("t.csv", "image,cat,dog\na.jpg,1.0,True\nb.jpg,,NaN\nc d.jpg,0.0,no\n"),
        (
            "t.jsonl",
            '{"image": "a.jpg", "labels": ["cat", "dog"]}\n\n{"image": "b.jpg", "labels": null}\n'
            '{"image": "c d.jpg", "labels": []}\n',
        ),
        (
            "t.jsonl",
            '{"image": "a.jpg", "cat": 1, "dog": true}\n{"image": "b.jpg", "dog": NaN}\n'
            '{"image": "c d.jpg", "cat": 0, "dog": false}\n',
        ),
    ],
)
def test_all_forms_mean_the_same(folder: Path, name: str, text: str) -> None:
    data = read_table(table(folder, text, name))
    assert data.labels.names == ("cat", "dog")
    assert data.records == EXPECTED


def test_json_lines_may_speak_as_a_manifest_does(folder: Path) -> None:
    rows = [
        {"image": "a.jpg", "positives": ["cat"], "difficult": ["dog"]},
        {"image": "b.jpg", "positives": [], "unknown": ["cat"]},
        {"image": "c d.jpg"},
    ]
    data = read_table(table(folder, "\n".join(json.dumps(row) for row in rows), "t.jsonl"))
    assert data.codes().tolist() == [[1, 2], [-1, 0], [-1, -1]]
    for wrong in ({"positives": ["cat"], "unknown": ["cat"]}, {"positives": ["cat"], "difficult": "dog"}):
        with pytest.raises(DataError, match=r"named twice|lists of label names"):
            read_table(table(folder, json.dumps({"image": "a.jpg", **wrong}), "t.jsonl"))


def test_a_column_beside_the_names_lists_unknown_labels(folder: Path) -> None:
    data = read_table(table(folder, "image,labels,unknown\na.jpg,cat,dog|sea\nb.jpg,sea,\nc d.jpg,?,\n"))
    assert data.labels.names == ("cat", "dog", "sea")
    assert data.codes().tolist() == [[1, -1, -1], [0, 0, 1], [-1, -1, -1]]
    assert data.unknown_entries == 5
    lone = read_table(table(folder, "image,unknown\na.jpg,cat\nb.jpg,-\n"))  # a label column of that name
    assert lone.codes().tolist() == [[1], [0]]


def test_every_missing_cell_of_json_lines_is_unknown(folder: Path) -> None:
    rows = ['{"image": "a.jpg", "cat": 1}', '{"image": "b.jpg", "dog": 0, "cat": null}', '{"image": "c d.jpg"}']
    data = read_table(table(folder, "\n".join(rows), "t.jsonl"))
    assert (data.labels.names, data.codes().tolist()) == (("cat", "dog"), [[1, -1], [-1, 0], [-1, -1]])


def test_a_label_may_be_called_positives(folder: Path) -> None:
    data = read_table(table(folder, "image,positives,cat\na.jpg,1,0\nb.jpg,0,\n"))
    assert (data.labels.names, data.codes().tolist()) == (("positives", "cat"), [[1, 0], [0, -1]])


def test_one_column_of_ones_and_zeros_is_a_label_of_that_name(folder: Path) -> None:
    data = read_table(table(folder, "image,cat\na.jpg,1\nb.jpg,0\nc d.jpg,\n"))
    assert (data.labels.names, positives_of(data)) == (("cat",), [("cat",), (), ()])
    assert data.records[2].unknown == ("cat",)


def test_a_first_row_that_names_an_image_is_no_header(folder: Path) -> None:
    (folder / "a.jpg").rename(folder / "plain")
    assert positives_of(read_table(table(folder, "plain,cat\nb.jpg,dog\n"))) == [("cat",), ("dog",)]


def test_columns_and_delimiter_can_be_named(folder: Path) -> None:
    path = table(folder, "image,where,what\nx,a.jpg,big cat/dog\n")
    data = read_table(path, options=Options(image_column="where", label_column="what", delimiter="/"))
    assert data.records == (Record("a.jpg", ("big cat", "dog")),)
    with pytest.raises(DataError, match="did you mean 'what'"):
        read_table(path, options=Options(label_column="whta"))


def test_columns_follow_the_label_set_that_is_passed(folder: Path) -> None:
    labels = LabelSpace(["dog", "sofa", "cat"])
    data = read_table(table(folder, "image,labels\na.jpg,cat\nb.jpg,\n"), labels)
    assert data.codes().tolist() == [[0, 0, 1], [-1, -1, -1]]


def test_the_reader_finds_tables_below_the_root_and_images_relative_to_it(folder: Path) -> None:
    (folder / "lists").mkdir()
    table(folder / "lists", "image,labels\na.jpg,cat\n")
    data = read(Options(), str(folder), "lists/train.csv", None)
    assert (data.path(0), data.split) == (folder / "a.jpg", "train")


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.jsonl"])
def test_a_split_below_the_root_may_be_named_without_its_suffix(folder: Path, name: str) -> None:
    text = '{"image": "a.jpg", "labels": ["cat"]}' if name.endswith("jsonl") else "image,labels\na.jpg,cat\n"
    table(folder, text.replace(",", "\t") if name.endswith("tsv") else text, name)
    (folder / "train").mkdir()  # a folder of images of this name is not the table
    data = read(Options(), str(folder), "train", None)
    assert (positives_of(data), data.split) == ([("cat",)], "train")
    with pytest.raises(DataError, match="cannot read the table"):
        read(Options(), str(folder), "val", None)


def test_images_without_labels_are_dropped_if_asked_for(folder: Path) -> None:
    path = table(folder, "image,labels\na.jpg,cat\nb.jpg,-\nc d.jpg,\n")
    data = read(Options(empty="drop"), "", str(path), None)
    assert [record.image for record in data.records] == ["a.jpg", "c d.jpg"]  # the labels of the last are unknown


def problems(path: Path, labels: LabelSpace | None = None) -> list[tuple[str, str]]:
    """Line and message of every problem that the reader reports."""
    with pytest.raises(DataError) as caught:
        read_table(path, labels)
    for problem in caught.value.problems:
        assert problem.where.startswith(str(path))
    return [(p.where.removeprefix(f"{path}, line "), p.message) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("image,labels\na.jpg,cat\nx.jpg,cat\n", "3", "x.jpg, found none"),
        ("image,labels\na.jpg,cat\nno/such/x.jpg,cat\n", "3", "x.jpg, found none"),
        ("image,labels\na.jpg,cat\n.,cat\n", "3", "found none"),
        ("image,labels\na.jpg,cat\na.jpg,dog\n", "3", "named twice"),
        ("image,labels\na.jpg,cat\n./a.jpg,dog\n", "3", "named twice"),
        ("image,labels\na.jpg,cat\n../a.jpg,cat\n", "3", "leaves the folder"),
        ("image,labels\na.jpg,cat\n,cat\n", "3", "names no image"),
        ("image,labels\na.jpg,cats\n", "2", "'cats' is not in the label set"),
        ("image,labels\na.jpg,cat|cat\n", "2", "a label twice"),
        ("image,labels\na.jpg,cat\nb.jpg,cat,dog\n", "3", "expected 2 cells, got 3"),
        ('image,labels\na.jpg,cat\nb.jpg,"dog\n', "3", "expected CSV"),
        ("image,cat,dog\na.jpg,1,2\n", "2", "column 'dog': expected 1, 0 or nothing (unknown), got '2'"),
        ("image,cat,dog\na.jpg,1,-1\n", "2", "got -1"),
        ("image,labels\na.jpg,cat\nb.jpg,-1\n", "3", "expected names of labels, got -1"),
        ("image,labels\na.jpg,cat\nb.jpg,dog|?\n", "3", "got '?' among them"),
        ("image,labels,unknown\na.jpg,cat,1\n", "2", "column 'unknown': expected names of labels, got '1'"),
        ("image,labels,unknown\na.jpg,cat,dgo\n", "1", "'dgo' is not in the label set"),
        ("image,labels,unknown\na.jpg,cat,cat\n", "2", "named twice"),
        ("image,labels,unknown\na.jpg,cat,\nb.jpg,,dog\n", "3", "listed as unknown, but 'labels' is blank"),
        ("image,cat,dogs\na.jpg,1,1\n", "2", "'dogs' is not in the label set"),
        ("image,cat,dog,dog\na.jpg,1,1,1\n", "1", "unique"),
        ("image,cat\na.jpg,1\n", "1", "'dog' of the label set has no column"),
        ("image\na.jpg\n", "1", "got one column"),
        ("a.jpg,1,0\n", "1", "needs a header"),
    ],
)
def test_a_mistake_is_named_by_its_line(folder: Path, text: str, line: str, message: str) -> None:
    found = problems(table(folder, text), LabelSpace(["cat", "dog"]))
    assert any(place == line and message in text for place, text in found), found


def test_a_code_of_minus_one_comes_with_what_it_may_mean(folder: Path) -> None:
    for text in ("image,cat\na.jpg,1\nb.jpg,-1\n", "image,cat,dog\na.jpg,1,-1.0\n"):
        with pytest.raises(DataError, match=r"absent in some data sets and unknown in others|leave the cell blank"):
            read_table(table(folder, text))


def test_all_mistakes_come_together(folder: Path) -> None:
    path = table(folder, "image,labels\nx.jpg,cat\na.jpg,dgo\na.jpg,cat\n../b.jpg,cat\n")
    found = problems(path, LabelSpace(["cat", "dog"]))
    assert sorted(place for place, _ in found) == ["2", "3", "4", "5"]


def test_an_unknown_label_comes_with_the_nearest_one(folder: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'dog'"):
        read_table(table(folder, "image,labels\na.jpg,dgo\n"), LabelSpace(["cat", "dog"]))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_table_is_refused(folder: Path, name: str, text: str) -> None:
    with pytest.raises(DataError, match="no images"):
        read_table(table(folder, text, name))


def test_a_table_without_any_label_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no label at all"):
        read_table(table(folder, "image,labels\na.jpg,-\nb.jpg,\n"))


def test_a_table_of_a_header_only_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        read_table(table(folder, "image,labels\n"))


def test_a_missing_or_binary_file_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="cannot read the table"):
        read_table(folder / "absent.csv")
    (folder / "binary.csv").write_bytes(b"\xff\x00\x00i")
    with pytest.raises(DataError, match="UTF-8"):
        read_table(folder / "binary.csv")


@pytest.mark.parametrize("line", ["{", "[]", '"text"', '{"image": "a.jpg", "labels": [1]}'])
def test_a_broken_json_line_is_named(folder: Path, line: str) -> None:
    path = table(folder, f'{{"image": "b.jpg", "labels": ["cat"]}}\n{line}\n', "t.jsonl")
    assert [place for place, _ in problems(path)] == ["2"]


def test_absolute_paths_and_symbolic_links_are_taken_as_they_are(folder: Path) -> None:
    (folder / "inside").mkdir()
    (folder / "inside" / "link.jpg").symlink_to(folder / "a.jpg")
    path = table(folder / "inside", f"image,labels\nlink.jpg,cat\n{folder / 'b.jpg'},dog\n")
    data = read_table(path)
    assert [data.path(index) for index in range(2)] == [folder / "inside" / "link.jpg", folder / "b.jpg"]


labels = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10).filter(
    lambda name: name.strip() == name and name.lower() not in {"-", ""}
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(labels, min_size=1, max_size=4, unique=True))
def test_json_lines_keep_any_label_name(folder: Path, names: list[str]) -> None:
    path = table(folder, json.dumps({"image": "a.jpg", "labels": names}, ensure_ascii=False) + "\n", "t.jsonl")
    data = read_table(path)
    assert data.labels.names == tuple(sorted(names))
    assert data.records[0].positives == tuple(names)
