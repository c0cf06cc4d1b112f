"""NUS-WIDE in its three layouts, and every way in which they can be broken."""

from __future__ import annotations

import contextlib
import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msrn.data.manifest import Manifest, Record
from msrn.data.readers.nuswide import CONCEPTS, Options, read
from msrn.errors import DataError, MsrnError
from msrn.labels.space import LabelSpace


def read_nuswide(root: Path, split: str, labels: LabelSpace | None = None, **options: Any) -> Manifest:
    return read(Options(**options), str(root), split, labels)


IMAGES = ("actor/0001.jpg", "sea side/0002.jpg", "sea side/0003.jpg")
SHOWN = (("person",), ("sky", "water"), ())


def touch(folder: Path) -> None:
    for image in IMAGES:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).touch()


@pytest.fixture
def official(tmp_path: Path) -> Path:
    touch(tmp_path / "Flickr")
    (tmp_path / "ImageList").mkdir()
    lines = "".join(image.replace("/", "\\") + " \r\n" for image in IMAGES)
    (tmp_path / "ImageList" / "TrainImagelist.txt").write_bytes(lines.encode())
    truth = tmp_path / "Groundtruth" / "TrainTestLabels"
    truth.mkdir(parents=True)
    for concept in CONCEPTS:
        text = "".join(f"{int(concept in shown)}\n" for shown in SHOWN)
        (truth / f"Labels_{concept}_Train.txt").write_text(text)
    return tmp_path


@pytest.fixture
def asl(tmp_path: Path) -> Path:
    touch(tmp_path)
    rows = zip(IMAGES, SHOWN, ("train", "val", "val"), strict=True)
    lines = "".join(f'{image},"{list(shown)}",{split}\n' for image, shown, split in rows)
    (tmp_path / "nus_wid_data.csv").write_text("filepath,label,split_name\n" + lines)
    return tmp_path


def text_of(error: DataError) -> str:
    return "\n".join(str(problem) for problem in error.problems)


def test_official_files_drop_unlabelled_images_and_count_them(official: Path) -> None:
    data = read_nuswide(official, "train")
    assert data.labels.names == CONCEPTS
    assert data.records == (Record(IMAGES[0], ("person",)), Record(IMAGES[1], ("sky", "water")))
    assert data.path(1).is_file()
    assert data.source == (
        "NUS-WIDE official files, split train, images without concepts dropped (1): 2 images, none of the common "
        f"splits, digest {data.digest[:12]}"
    )


def test_unlabelled_images_are_kept_if_asked_for(official: Path) -> None:
    data = read_nuswide(official, "train", empty="keep", order="published")
    assert [record.positives for record in data.records] == [("person",), ("sky", "water"), ()]
    assert "kept (1): 3 images" in data.source
    assert data.labels.names[:2] == ("clouds", "sky")


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_csv_has_two_splits(asl: Path, split: str) -> None:
    assert read_nuswide(asl, "train").records == (Record(IMAGES[0], ("person",)),)
    assert read_nuswide(asl, split, empty="keep").records == (
        Record(IMAGES[1], ("sky", "water")),
        Record(IMAGES[2]),
    )


@pytest.mark.parametrize("form", ["numbers", "numbers after a comma", "numbers after a tab", "names", "0 and 1"])
def test_lists_mean_the_same_in_each_form(tmp_path: Path, form: str) -> None:
    image, shown = IMAGES[0], ("person", "sky")
    (tmp_path / "images" / image).parent.mkdir(parents=True)
    (tmp_path / "images" / image).touch()
    numbers = " ".join(str(CONCEPTS.index(name)) for name in shown)
    line = {
        "numbers": f"{image} {numbers}",
        "numbers after a comma": f"{image}, {numbers}",
        "numbers after a tab": f"{image}\t{numbers}",
        "names": f"{image} {' '.join(shown)}",
        "0 and 1": f"{image} {' '.join(str(int(name in shown)) for name in CONCEPTS)}",
    }[form]
    (tmp_path / "database.txt").write_bytes(f"\ufeff{line}\r\n\r\n".encode())
    assert read_nuswide(tmp_path, "database.txt").records == (Record(image, shown),)


def test_numbers_count_in_the_order_of_the_label_set(tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").touch()
    (tmp_path / "list.txt").write_text("a b.jpg,0 2\n")
    data = read_nuswide(tmp_path, str(tmp_path / "list.txt"), LabelSpace(["zebra", "dog", "cat"]))
    assert data.records == (Record("a b.jpg", ("zebra", "cat")),)


def test_everything_wrong_with_official_files_is_reported_at_once(official: Path) -> None:
    truth = official / "Groundtruth" / "TrainTestLabels"
    (truth / "Labels_sky_Train.txt").write_text("0\n2\n0\n")
    (truth / "Labels_sun_Train.txt").write_text("0\n1\n")
    (truth / "Labels_map_Train.txt").unlink()
    (truth / "Labels_cow_Train.txt").write_bytes(b"\xff\xfe\n0\n0\n")
    with pytest.raises(DataError) as error:
        read_nuswide(official, "train")
    assert f"expected 0 or 1, got '2'\n  at: {truth / 'Labels_sky_Train.txt'}, line 2" in text_of(error.value)
    assert "expected 3 lines, one per image of TrainImagelist.txt, got 2" in text_of(error.value)
    assert "expected the labels of 'map', found no file" in text_of(error.value)
    assert "expected text in UTF-8" in text_of(error.value)
    assert f"at: {truth / 'Labels_cow_Train.txt'}" in text_of(error.value)


def test_an_empty_line_among_the_images_is_reported_as_labels_belong_to_lines(official: Path) -> None:
    path = official / "ImageList" / "TrainImagelist.txt"
    path.write_text(path.read_text().replace("sea side\\0003.jpg", ""))
    path.write_text(path.read_text().rstrip() + "\n\nx.jpg\n")
    with pytest.raises(DataError) as error:
        read_nuswide(official, "train")
    assert f"expected the path of an image, got none\n  at: {path}, line 3" in text_of(error.value)


def test_a_byte_order_mark_and_other_line_ends_do_no_harm(official: Path) -> None:
    expected = read_nuswide(official, "train").records
    for path in official.rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n")
    assert read_nuswide(official, "train").records == expected


def test_some_of_the_concepts_may_be_asked_for_in_any_order(official: Path, asl: Path) -> None:
    some = LabelSpace(["water", "person"])
    (asl / "nus_wid_data.csv").rename(asl / "other.txt")
    assert read_nuswide(official, "train", some).codes().tolist() == [[0, 1], [1, 0]]
    with pytest.raises(DataError, match="expected the labels of 'waters', found no file"):
        read_nuswide(official, "train", LabelSpace(["waters"]))
    (asl / "other.txt").rename(asl / "nus_wid_data.csv")
    with pytest.raises(DataError, match="concept 'sky' is not in the label set"):
        read_nuswide(asl, "val", some)
    with pytest.raises(DataError, match="label 'skies' of the label set is named nowhere"):
        read_nuswide(asl, "val", LabelSpace(["sky", "skies", "water"]))


def test_everything_wrong_with_a_csv_is_reported_at_once(asl: Path) -> None:
    path = asl / "nus_wid_data.csv"
    text = path.read_text()
    text += "x.jpg,\"['skye']\",train\ny.jpg,\"__import__('os')\",train\nz.jpg,sky,train\n../o.jpg,\"['sky']\",train\n"
    text += f'{IMAGES[0]},"[\'sky\']",train\nl.jpg,"{["sky"] * 15_000}",train\n'
    text += "m.jpg,\"['sky']\",trian\nn.jpg,['sky','sun'],train\n,\"['sky']\",train\nq.jpg,{'sky'},train\n"
    text += 'r.jpg,"' + "(" * 5000 + '",train\n'
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_nuswide(asl, "train", empty="keep")
    assert "concept 'skye' is not in the label set" in text_of(error.value)
    assert f"{path}, line 5\n  hint: did you mean 'sky'?" in text_of(error.value)
    assert text_of(error.value).count("expected a list such as ['sky', 'clouds']") == 5
    assert f"expected split_name train or val, got 'trian'\n  at: {path}, line 11" in text_of(error.value)
    assert f"expected 3 cells, got 4\n  at: {path}, line 12" in text_of(error.value)
    assert f"expected the path of an image, got none\n  at: {path}, line 13" in text_of(error.value)
    assert f"images do not exist below {asl}, such as 'x.jpg'" in text_of(error.value)
    assert "'../o.jpg' lies outside" in text_of(error.value)
    assert "is named twice" in text_of(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"filepath,label,split_name\na.jpg,\"['sky'],train\n", "is a quotation mark left open"),
        (b"filepath,label,split_name\na.jpg," + b"x" * 200_000 + b",train\n", "expected CSV"),
        (b"\xff\xfe", "cannot read the csv"),
        (b"", "expected columns filepath, label and split_name, got none"),
        (b"filepath,label,split_name\n", "there is no split 'train'"),
        (b"filepath,label,split_name\na.jpg,[],val\n", "splits found: val"),
    ],
)
def test_a_csv_that_is_none_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(DataError) as error:
        read_nuswide(tmp_path, "train")
    assert message in str(error.value)


def test_a_csv_may_have_other_columns_bom_and_line_ends(asl: Path) -> None:
    path = asl / "nus_wid_data.csv"
    expected = read_nuswide(asl, "test").records
    lines = path.read_text().splitlines()
    text = "\r\n".join([f"id,{lines[0]}", *(f"{n},{line}" for n, line in enumerate(lines[1:]))])
    path.write_bytes(f"\ufeff{text}\r\n\r\n".encode())
    assert read_nuswide(asl, "test").records == expected


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_paths_start_from_the_root_or_the_folder_images(asl: Path, prefix: str) -> None:
    path = asl / "nus_wid_data.csv"
    (asl / "images").mkdir()
    for image in {image.split("/")[0] for image in IMAGES}:
        (asl / image).rename(asl / "images" / image)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"{prefix}{line}" for line in lines[1:])]))
    data = read_nuswide(asl, "train")
    assert data.path(0) == asl / "images" / IMAGES[0]


def test_images_that_are_nowhere_are_one_problem_with_the_places_searched(asl: Path) -> None:
    for image in IMAGES:
        (asl / image).unlink()
    with pytest.raises(DataError, match=r"expected images such as 'actor/0001\.jpg', found none") as error:
        read_nuswide(asl, "train")
    assert len(error.value.problems) == 1
    assert str(asl / "Flickr") in error.value.hint


def test_a_link_may_not_leave_the_folder_of_images(asl: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.jpg"
    secret.touch()
    (asl / IMAGES[0]).unlink()
    (asl / IMAGES[0]).symlink_to(secret)
    with pytest.raises(DataError, match=r"image 'actor/0001\.jpg' is a link that leaves"):
        read_nuswide(asl, "train")


CELLS = st.text(st.sampled_from("[]()'\"\\,{}sky 01\r\n\t\0\ufeff-é"), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CELLS, CELLS, CELLS, st.sampled_from(["list.txt", "a.csv"]))
def test_whatever_a_line_holds_it_is_read_or_refused_in_words(
    tmp_path: Path, image: str, label: str, split: str, name: str
) -> None:
    root = tmp_path / name
    root.mkdir(exist_ok=True)
    (root / "a.jpg").touch()
    lines = {
        "list.txt": ["a.jpg 3 5", f"{image} {label}"],
        "a.csv": ["filepath,label,split_name", "a.jpg,['sky'],train"],
    }
    text = "\n".join([*lines[name], f"{image},{label},{split}"])
    (root / name).write_text(text, encoding="utf-8", newline="")
    with contextlib.suppress(MsrnError):
        assert read_nuswide(root, {"a.csv": "train"}.get(name, name)).records[0].image == "a.jpg"


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\,", exclude_categories=["C", "Z"]), min_size=1, max_size=8
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        NAMES.filter(lambda name: set(name) != {"."}), st.sets(st.sampled_from(CONCEPTS), min_size=1), min_size=1
    )
)
def test_all_layouts_mean_the_same_for_any_images(tmp_path: Path, shown: dict[str, set[str]]) -> None:
    root = tmp_path / "any"
    shutil.rmtree(root, ignore_errors=True)
    (root / "images").mkdir(parents=True)
    for name in shown:
        (root / "images" / name).touch()
    truth = root / "official" / "Groundtruth" / "TrainTestLabels"
    truth.mkdir(parents=True)
    (root / "official" / "ImageList").mkdir()
    (root / "official" / "ImageList" / "TestImagelist.txt").write_text("\n".join(shown))
    for concept in CONCEPTS:
        (truth / f"Labels_{concept}_Test.txt").write_text(
            "\n".join(str(int(concept in names)) for names in shown.values())
        )
    with open(root / "asl.csv", "w", newline="") as file:
        rows = [(name, sorted(names, reverse=True), "val") for name, names in shown.items()]
        csv.writer(file).writerows([("filepath", "label", "split_name"), *rows])
    numbered = (f"{name} {' '.join(str(CONCEPTS.index(each)) for each in names)}" for name, names in shown.items())
    (root / "list.txt").write_text("\n".join(numbered))
    expected = [(name, names) for name, names in shown.items()]
    for data in (
        read_nuswide(root / "official", "test", images="../images"),
        read_nuswide(root, "test"),
        read_nuswide(root, "list.txt"),
    ):
        assert [(record.image, set(record.positives)) for record in data.records] == expected


def test_everything_wrong_with_a_list_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"a.jpg 81 3\nb.jpg sky clods\nc.jpg{' 0' * 80}\nd.jpg {'9' * 5000}\n")
    with pytest.raises(DataError) as error:
        read_nuswide(tmp_path, "list.txt")
    assert "expected numbers from 0 to 80, got 81" in text_of(error.value)
    assert "did you mean 'clouds'?" in text_of(error.value)
    assert "expected different numbers, or 81 of 0 and 1, got 80, some of them twice" in text_of(error.value)
    assert "expected numbers from 0 to 80, got 99999999999999999999\n" in text_of(error.value)


def test_missing_images_are_named(official: Path) -> None:
    (official / "Flickr" / IMAGES[0]).unlink()
    with pytest.raises(DataError, match=r"expected an image at .*0001\.jpg, found none"):
        read_nuswide(official, "train")


@pytest.mark.parametrize("split", ["val", "validation"])
def test_splits_that_are_not_there_are_refused(official: Path, asl: Path, split: str) -> None:
    (asl / "nus_wid_data.csv").unlink()
    with pytest.raises(DataError, match="expected split train or test"):
        read_nuswide(official, split)


def test_a_folder_of_something_else_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_nuswide(tmp_path, "train")
    assert "expected ImageList and Groundtruth, one .csv, or the name of a list" in str(error.value)
    (tmp_path / "a.csv").write_text("image,label\n")
    with pytest.raises(DataError, match="expected columns filepath, label and split_name, got image, label"):
        read_nuswide(tmp_path, "train")
    (tmp_path / "b.csv").touch()
    with pytest.raises(DataError, match=r"expected one csv, found a\.csv, b\.csv"):
        read_nuswide(tmp_path, "train")
    with pytest.raises(DataError, match="a csv holds several splits"):
        read_nuswide(tmp_path, "a.csv")


def test_a_split_without_any_concept_is_refused_with_how_to_keep_it(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with pytest.raises(DataError, match="no image has a concept"):
        read_nuswide(tmp_path, "list.txt")
