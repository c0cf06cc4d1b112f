"""Tables as other programs write them: what must be read, how it is described, and what the refusal advises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msrn.audit.check import check_data
from msrn.data.compounds import compound_labels
from msrn.data.manifest import Manifest
from msrn.data.readers.table import Options, read, read_table
from msrn.errors import DataError, DependencyError
from msrn.labels.space import LabelSpace

Images = Callable[..., Path]
P = tuple(f"p{number}.jpg" for number in range(6))


def table(folder: Path, text: str | bytes, name: str = "labels.csv", **options: Any) -> Manifest:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, root=folder, options=Options(**options))


def shown(data: Manifest) -> dict[str, tuple[str, ...]]:
    return {record.image: record.positives for record in data.records}


def refusal(folder: Path, text: str | bytes, name: str = "labels.csv", **options: Any) -> str:
    with pytest.raises((DataError, DependencyError)) as caught:
        table(folder, text, name, **options)
    return str(caught.value)


def codes(data: Manifest) -> dict[str, str]:
    return {each.code: each.severity for each in check_data([data]).issues}


def test_blanks_part_cells_where_each_part_is_a_cell_of_its_own(images: Images) -> None:
    text = "image,labels\np0.jpg,scab\np1.jpg,rust\np2.jpg,scab rust\np3.jpg,healthy\n"
    data = table(images(*P[:4]), text)
    assert shown(data)["p2.jpg"] == ("scab", "rust")
    assert "separated by blanks in 1 of 4 cells" in data.reading


def test_labels_made_of_labels_are_reported_with_the_option_that_parts_them(images: Images) -> None:
    text = "image,labels\np0.jpg,scab\np1.jpg,rust\np2.jpg,scab rust\np3.jpg,scab rust complex\np4.jpg,rust complex\n"
    data = table(images(*P[:5]), text)
    assert "--data.reader.delimiter" in data.reading
    assert codes(data)["label-compound"] == "error"
    parted = table(images(*P[:5]), text, delimiter=" ")
    assert parted.labels.names == ("complex", "rust", "scab")
    assert "label-compound" not in codes(parted)


def test_planet_names_without_suffix_and_tags_between_blanks(images: Images) -> None:
    folder = images("jpg/train_0.jpg", "jpg/train_1.jpg", "jpg/train_2.jpg")
    (folder / "t.csv").write_text("image_name,tags\ntrain_0,haze primary\ntrain_1,clear primary\ntrain_2,haze\n")
    data = read(Options(delimiter=" "), str(folder / "jpg"), str(folder / "t.csv"), None)
    assert data.labels.names == ("clear", "haze", "primary")
    assert [record.image for record in data.records] == ["train_0.jpg", "train_1.jpg", "train_2.jpg"]
    assert "3 images found by adding the suffix ('train_0' is 'train_0.jpg')" in data.reading


def test_chest_xray_names_its_column_of_labels(images: Images) -> None:
    text = "Image Index,Finding Labels,Age,View,Size[Width,Height],\n"
    text += "".join(
        f"{name},{cell},60,PA,2500,2048,\n" for name, cell in zip(P, ["A", "A|B", "No Finding"], strict=False)
    )
    assert "--data.reader.label_column 'Finding Labels'" in refusal(images(*P[:3]), text)
    data = table(images(*P[:3]), text, label_column="Finding Labels")
    assert data.labels.names == ("A", "B", "No Finding")
    assert codes(data)["label-none"] == "note"


@pytest.mark.parametrize(
    "cell",
    [
        "['sea', 'boat']",
        '["sea", "boat"]',
        "['sea' 'boat']",
        "('sea', 'boat')",
        "[sea, boat]",
        '{"choices": ["sea", "boat"]}',
    ],
)
def test_lists_in_cells_are_lists(images: Images, cell: str) -> None:
    quoted = cell.replace('"', '""')
    data = table(images(*P[:3]), f'image,labels\np0.jpg,"{quoted}"\np1.jpg,[]\np2.jpg,\n')
    assert data.codes().tolist() == [[1, 1], [0, 0], [-1, -1]]
    assert data.labels.names == ("boat", "sea")


def test_a_list_that_cannot_be_read_is_refused_with_the_word_list(images: Images) -> None:
    assert "expected a list of names" in refusal(images(*P[:1]), "image,labels\np0.jpg,\"['sea', 'bo'at']\"\n")
    assert "lacks a bracket" in refusal(images(*P[:1]), "image,labels\np0.jpg,\"['sea', 'boat'\"\n")
    message = refusal(images(*P[:1]), 'image,labels\np0.jpg,"[0, 2]"\n')
    assert "class numbers say nothing without their names" in message


@pytest.mark.parametrize(("meaning", "expected"), [("absent", 0), ("unknown", -1), ("present", 1)])
def test_minus_one_has_the_meaning_that_is_given(images: Images, meaning: str, expected: int) -> None:
    text = "image_id,Bald,Young\np0.jpg,-1,1\np1.jpg,1,-1\n"
    assert "--data.reader.minus_one" in refusal(images(*P[:2]), text)
    data = table(images(*P[:2]), text, minus_one=meaning)
    assert data.codes().tolist() == [[expected, 1], [1, expected]]
    plain = "2\nBald Young \np0.jpg -1  1\np1.jpg  1 -1\n"
    assert table(images(*P[:2]), plain, "list.txt", minus_one=meaning).codes().tolist() == data.codes().tolist()


def test_chexpert_columns_and_codes_are_options(images: Images) -> None:
    folder = images("train/a/v.jpg", "train/b/v.jpg")
    text = "Path,Sex,Age,Edema,Rash\nCheX-v1/train/a/v.jpg,Male,60,1.0,-1.0\nCheX-v1/train/b/v.jpg,Female,50,,0.0\n"
    message = refusal(folder, text)
    assert "--data.reader.ignored_columns Sex,Age" in message
    assert message.count("column 'Sex'") == 1
    for options in ({"ignored_columns": "Sex,Age"}, {"label_columns": ("Edema", "Rash")}):
        data = table(folder, text, minus_one="unknown", blank="absent", **options)
        assert data.codes().tolist() == [[1, -1], [0, 0]]
        assert "leaving out 1 leading folder" in data.reading


def test_a_row_per_label_is_joined_and_told(images: Images) -> None:
    text = "filename,label\np0.jpg,dog\np0.jpg,cat\np1.jpg,dog\np2.jpg,cat\np2.jpg,sofa\n"
    data = table(images(*P[:3]), text)
    assert shown(data) == {"p0.jpg": ("dog", "cat"), "p1.jpg": ("dog",), "p2.jpg": ("cat", "sofa")}
    assert "a row per label, joined by image (5 rows, 3 images)" in data.reading
    assert "--data.reader.repeated join" in refusal(images(*P[:3]), text, repeated="refuse")


def test_open_images_long_form_leaves_unverified_labels_unknown(images: Images) -> None:
    text = "ImageID,Source,LabelName,Confidence\np0,v,/m/1,1\np0,v,/m/2,0\np1,v,/m/2,1\np1,v,/m/1,1\np2,v,/m/3,1\n"
    data = table(images(*P[:3]), text)
    assert data.labels.names == ("/m/1", "/m/2", "/m/3")
    assert data.codes().tolist() == [[1, 0, -1], [1, 1, -1], [-1, -1, 1]]
    assert "with 1 or 0 in 'Confidence'" in data.reading
    assert "got '0.7'" in refusal(images(*P[:3]), text.replace("/m/3,1", "/m/3,0.7"))


def test_vertex_rows_of_different_lengths_name_their_split(images: Images) -> None:
    text = "training,gs://b/i/p0.jpg,sea,boat\nvalidation,gs://b/i/p1.jpg,sea\ntraining,gs://b/i/p2.jpg\n"
    folder = images(*P[:3])
    assert "labels.csv::train" in refusal(folder, text)
    data = read(Options(), str(folder), str(folder / "labels.csv::train"), None)
    assert (data.split, shown(data)) == ("train", {"p0.jpg": ("sea", "boat"), "p2.jpg": ()})
    assert table(folder, text, ignored_columns="split").labels.names == ("boat", "sea")


def test_a_split_like_column_is_no_label_and_never_mixes_splits(images: Images) -> None:
    text = "image,is_valid,sea,boat\np0.jpg,False,1,0\np1.jpg,True,0,1\n"
    folder = images(*P[:2])
    assert "column 'is_valid' parts the rows into splits: train 1, val 1" in refusal(folder, text)
    data = read_table(folder / "labels.csv", part="valid")
    assert (shown(data), data.labels.names) == ({"p1.jpg": ("boat",)}, ("sea", "boat"))
    with pytest.raises(DataError, match="no part 'test'"):
        read_table(folder / "labels.csv", part="test")
    names = "image,labels,split\np0.jpg,sea,train\np1.jpg,boat,test\n"
    assert "parts the rows" in refusal(folder, names)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("start", "mark"), [("", ";"), ("", "\t"), ("sep=;\r\n", ";")])
def test_excel_files_are_read(images: Images, encoding: str, start: str, mark: str) -> None:
    text = f"{start}image{mark}labels\r\np0.jpg{mark}Bär|Meer\r\np1.jpg{mark}-\r\n"
    data = table(images(*P[:2]), text.encode(encoding))
    assert shown(data) == {"p0.jpg": ("Bär", "Meer"), "p1.jpg": ()}


def test_other_encodings_and_workbooks_come_with_a_way_out(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "image;labels\np0.jpg;Bär|Meer\n".encode("cp1252")
    assert "--data.reader.encoding cp1252" in refusal(images(*P[:1]), content)
    assert table(images(*P[:1]), content, encoding="cp1252").labels.names == ("Bär", "Meer")
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    assert "save it as CSV UTF-8" in refusal(images(*P[:1]), b"PK\x03\x04rest", "book.xlsx")


def test_lists_of_class_numbers_name_the_reader(images: Images) -> None:
    text = "image\\p0.jpg 2 0\nimage\\p1.jpg 1\n"
    assert "--data.reader nuswide" in refusal(images("image/p0.jpg", "image/p1.jpg"), text, "train_list.txt")


def test_an_entity_does_not_part_the_column(images: Images) -> None:
    text = 'image,labels\np0.jpg,"arts &amp; crafts, beach"\np1.jpg,"sea, boat"\np2.jpg,"sea, beach"\n'
    data = table(images(*P[:3]), text)
    assert data.labels.names == ("arts &amp; crafts", "beach", "boat", "sea")
    assert codes(data)["label-compound"] == "warning"
    two = table(images(*P[:3]), text.replace("sea, boat", "sea; boat"))
    assert "';' occurs in 1" in two.reading


@pytest.mark.parametrize(
    ("text", "labels", "reading"),
    [
        (",image,sea,boat\n0,p0.jpg,1,0\n1,p1.jpg,0,1\n2,p2.jpg,1,1\n", ("sea", "boat"), "left out: a column without"),
        (",fname,labels\n0,p0.jpg,sea\n1,p1.jpg,boat\n2,p2.jpg,sea\n", ("boat", "sea"), "images in 'fname'"),
        ("image,sea,boat,\np0.jpg,1,0,\np1.jpg,0,1,\n", ("sea", "boat"), "2 columns are labels"),
        ("image,button,tag,zip\np0.jpg,1,0,1\np1.jpg,0,1,0\n", ("button", "tag", "zip"), "3 columns are labels"),
        ("image,class,sea\np0.jpg,in,1\np1.jpg,out,0\n", ("in", "out"), "1 and 0 in sea: --data.reader.label_columns"),
        ("id,image,sea\n7,p0.jpg,1\n9,p1.jpg,0\n", ("sea",), "columns left out: 'id'"),
    ],
)
def test_columns_that_are_no_labels(images: Images, text: str, labels: tuple[str, ...], reading: str) -> None:
    data = table(images(*P[:3]), text)
    assert data.labels.names == labels
    assert reading in data.reading


def test_a_nameless_column_of_other_values_is_one_problem_in_words(images: Images) -> None:
    assert "a column without a name: expected 1, 0" in refusal(images(*P[:2]), "image,,sea\np0.jpg,x,1\np1.jpg,y,0\n")


def test_a_label_set_selects_columns(images: Images) -> None:
    folder = images(*P[:2])
    (folder / "t.csv").write_text("image,sea,boat,age\np0.jpg,1,0,60\np1.jpg,0,1,50\n")
    data = read_table(folder / "t.csv", LabelSpace(["boat"]))
    assert data.codes().tolist() == [[0], [1]]
    assert "left out: 'sea', 'age'" in data.reading


def test_label_studio_and_hugging_face_metadata(images: Images) -> None:
    folder = images(*P[:2])
    lines = [
        {"image": f"/data/upload/1/{P[0]}", "choice": {"choices": ["sea", "boat"]}},
        {"image": f"/data/upload/1/{P[1]}", "choice": "sea"},
    ]
    assert shown(table(folder, json.dumps(lines), "min.json")) == {"p0.jpg": ("sea", "boat"), "p1.jpg": ("sea",)}
    text = f'image,choice\n/data/upload/1/{P[0]},"{{""choices"": [""sea"", ""boat""]}}"\n/data/upload/1/{P[1]},sea\n'
    assert shown(table(folder, text)) == {"p0.jpg": ("sea", "boat"), "p1.jpg": ("sea",)}
    rows = [{"file_name": name, "text": "a photo", "objects": {"categories": [0]}} for name in P[:2]]
    lines_of = "\n".join(map(json.dumps, rows))
    assert "'objects' holds objects, not names" in refusal(folder, lines_of, "metadata.jsonl")


def test_many_missing_images_are_one_problem(images: Images) -> None:
    folder = images("img/p0.jpg")
    text = "image,labels\n" + "".join(f"x{number}.jpg,sea\n" for number in range(50))
    with pytest.raises(DataError) as caught:
        table(folder, text)
    assert len(caught.value.problems) == 1
    assert "50 of 50 images do not exist" in caught.value.message
    assert "--data.root" in refusal(folder, "image,labels\np0.jpg,sea\n")
    assert "URLs are not fetched" in refusal(folder, "image,labels\nhttps://a.b/x.jpg,sea\n")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("A.JPG", "a.jpg"),
        ("u\u0308.jpg", "\u00fc.jpg"),
        ("img\\a.jpg", "img/a.jpg"),
        ("my%20pic.jpg", "my pic.jpg"),
        ("a", "a.png"),
        ("C:\\data\\img\\a.jpg", "img/a.jpg"),
        ("s3://bucket/a.jpg", "a.jpg"),
        ("/data/local-files/?d=img/a.jpg", "img/a.jpg"),
    ],
)
def test_names_that_nearly_fit_are_found_and_told(images: Images, name: str, file: str) -> None:
    data = table(images(file), f"image,labels\n{name},sea\n")
    assert [record.image for record in data.records] == [file]
    assert "1 images found by" in data.reading


def test_a_rule_that_does_not_fit_every_image_is_not_used(images: Images) -> None:
    message = refusal(images("a.jpg", "a.png", "b.jpg"), "image,labels\na,sea\nb,sea\n")
    assert "found none" in message
    assert compound_labels(["traffic light", "light rail"]) == {}
