"""Checks of a data set: each defect is planted in good images, and exactly that defect is reported."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from checked_data import LABELS, added, drawing, found, run, split
from PIL import Image

import msrn.audit.check as check_module
import msrn.audit.probe as probe_module
from msrn.audit.check import contradictions, split_rank
from msrn.audit.output import check_text
from msrn.audit.probe import image_size, probe, probe_all
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.webdataset import read_shards
from msrn.data.writers.webdataset import Options, write
from msrn.labels.space import LabelSpace


def test_nothing_is_found_in_a_good_data_set(good: tuple[Manifest, Manifest]) -> None:
    check = run(*good)
    assert found(check) == []
    assert check_text(check.result) == "18 images (train 12, test 6), 3 labels: no issues"


def test_images_that_are_missing_truncated_or_of_another_kind_are_errors(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    whole = (train.root / "0.jpg").read_bytes()
    (train.root / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (train.root / "text.jpg").write_text("<html>404</html>")
    (train.root / "empty.jpg").touch()
    names = ("gone.jpg", "cut.jpg", "text.jpg", "empty.jpg")
    check = run(added(train, *(Record(name, ("sea",)) for name in names)), test)
    assert found(check) == [
        ("missing", ["train/gone.jpg"]),
        *(("unreadable", [f"train/{name}"]) for name in names[1:]),
    ]
    assert "truncated" in check.issues[1].message
    assert check.result.counts == {"error": 4, "warning": 0, "note": 0}


@pytest.mark.parametrize(
    ("name", "draw", "code", "message"),
    [
        ("a.jpg", lambda path: drawing(90).save(path, "PNG"), "suffix", ".jpg holds PNG"),
        ("a.PNG", lambda path: drawing(90).save(path, "JPEG"), "suffix", ".png holds JPEG"),
        ("a.png", lambda path: Image.new("RGB", (60, 50), "teal").save(path), "blank", "60 x 50"),
        ("a.png", lambda path: drawing(90, 31, 40).save(path), "tiny", "31 x 40"),
        ("a.png", lambda path: drawing(90, 40, 204).save(path), "narrow", "40 x 204"),
        ("a.jpeg", lambda path: drawing(90, 4899, 4900).save(path, "JPEG"), "large", "4899 x 4900"),
    ],
)
def test_unusual_images_are_reported_under_their_code(
    good: tuple[Manifest, Manifest], name: str, draw: Callable[[Path], None], code: str, message: str
) -> None:
    train, test = good
    draw(train.root / name)
    check = run(added(train, Record(name, ("sea",))), test)
    if code == "large":  # 24.0051 megapixels, just above the bound
        assert check_module.MANY_PIXELS < 4899 * 4900
    assert found(check) == [(code, [f"train/{name}"])]
    assert message in check.issues[0].message


@pytest.mark.parametrize("name", ["a.jfif", "a.JPG", "a.jpe", "noname", "a.unheard"])
def test_usual_and_unknown_suffixes_are_left_alone(good: tuple[Manifest, Manifest], name: str) -> None:
    train, test = good
    drawing(91).save(train.root / name, "JPEG")
    assert found(run(added(train, Record(name, ("sea",))), test)) == []


def test_a_rotated_image_is_measured_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    drawing(0, 90, 60).save(tmp_path / "a.jpg", exif=exif)
    assert (probe(str(tmp_path / "a.jpg")).width, probe(str(tmp_path / "a.jpg")).height) == (60, 90)
    assert image_size(str(tmp_path / "a.jpg")) == (60, 90)
    assert image_size(str(tmp_path / "gone.jpg")) is None


def test_the_same_image_is_found_in_another_file_format(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    Image.open(train.root / "3.jpg").save(train.root / "copy.bmp")
    check = run(added(train, Record("copy.bmp", ("boat",))), test)
    assert found(check) == [("duplicate", ["train/3.jpg", "train/copy.bmp"])]
    assert check.result.counts == {"error": 0, "warning": 1, "note": 0}


def test_leakage_is_named_and_not_taken_for_a_mere_duplicate(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    check = run(train, added(test, Record("./5.jpg", ("sea",))))
    assert found(check) == [("leak", ["train/5.jpg", "test/./5.jpg"])]
    assert check.issues[0].severity == "error"
    assert "leakage" in check_text(check.result)


def test_the_same_image_with_other_labels_is_a_conflict_unless_they_are_unknown(
    good: tuple[Manifest, Manifest],
) -> None:
    train, test = good
    Image.open(train.root / "0.jpg").save(train.root / "copy.png")
    check = run(added(train, Record("copy.png", ("sea", "boat"))), test)
    assert found(check)[0] == ("conflict", ["train/0.jpg", "train/copy.png"])
    assert check.issues[0].labels == ("sea",)
    check = run(added(train, Record("copy.png", ("boat",), unknown=("sea", "horse"))), test)
    assert [code for code, _ in found(check)] == ["duplicate"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Record("a", ("x",)), Record("b", ("x",)), []),
        (Record("a", ("x",)), Record("b", ("y",)), ["x", "y"]),
        (Record("a", ("x",)), Record("b", (), ("x",)), []),  # difficult counts as present
        (Record("a", ("x",)), Record("b", (), (), ("x",)), []),
        (Record("a", (), ("x",)), Record("b"), ["x"]),
        (Record("a"), Record("b"), []),
    ],
)
def test_records_contradict_one_another_where_one_shows_what_the_other_denies(
    one: Record, other: Record, expected: list[str]
) -> None:
    assert contradictions([one, other]) == contradictions([other, one]) == expected


def test_near_duplicates_are_notes_within_and_warnings_across_splits(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    drawing(4).resize((48, 36)).save(train.root / "small.png")
    drawing(13).resize((60, 60)).save(train.root / "square.png")
    more = added(train, Record("small.png", ("horse",)), Record("square.png", ("sea",)))
    check = run(more, test)
    assert found(check) == [
        ("near-leak", ["train/square.png", "test/13.jpg"]),
        ("near-duplicate", ["train/4.jpg", "train/small.png"]),
    ]
    assert check.issues[0].labels == ("horse", "sea")  # and what they disagree on
    assert found(run(more, test, near_bits=None)) == []


def test_without_imagehash_exact_duplicates_are_found_and_a_note_reports_what_is_missing(
    good: tuple[Manifest, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "imagehash_installed", lambda: False)
    train, test = good
    check = run(train, added(test, Record("./5.jpg", ("sea",))))
    assert [code for code, _ in found(check)] == ["leak", "near-not-checked"]
    assert "pip install" in check.issues[1].hint
    assert check.near_bits is None


def test_images_in_shards_are_checked_in_place(good: tuple[Manifest, Manifest], tmp_path: Path) -> None:
    train, test = good
    drawing(14).save(train.root / "leaked.jpg")
    folder = tmp_path / "shards"
    write(Options(), added(train, Record("leaked.jpg", ("sea",))), folder)
    packed = read_shards(sorted(folder.glob("*.tar")), split="train")
    check = run(packed, test)
    assert [code for code, _ in found(check)] == ["leak"]
    assert found(check)[0][1] == ["train/train-000000.tar::00000012.jpg", "test/14.jpg"]


def test_labels_that_are_rare_absent_or_always_present_are_reported(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    labels = LabelSpace([*LABELS, "whale", "always"])
    rows = [Record(r.image, (*r.positives, "always")) for r in train.records]
    rows[0] = Record("0.jpg", (), ("boat", "whale", "always"))  # difficult ones count
    check = run(split(train.root, "train", *rows, labels=labels), test)
    assert [(each.code, each.message) for each in check.issues] == [
        ("label-absent", "'whale': no image in test"),
        ("label-absent", "'always': no image in test"),
        ("label-rare", "'whale': 1 in train, expected at least 4"),
        ("label-always", "'always': all 12 images of train"),
    ]


def test_images_without_labels_differ_from_those_without_a_known_label(
    good: tuple[Manifest, Manifest],
) -> None:
    train, test = good
    for number in range(3):
        drawing(70 + number).save(train.root / f"new{number}.png")
    more = [Record("new0.png"), Record("new1.png", unknown=("sea",)), Record("new2.png", unknown=tuple(LABELS))]
    assert found(run(added(train, *more), test)) == [
        ("nothing-known", ["train/new2.png"]),
        ("no-labels", ["train/new0.png", "train/new1.png"]),
    ]


def test_label_names_are_compared_across_splits(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    labels = LabelSpace(["Boat", "horse", "sea"])
    rows = [Record(r.image, tuple("Boat" if n == "boat" else n for n in r.positives)) for r in test.records]
    check = run(train, split(test.root, "test", *rows, labels=labels))
    assert found(check)[0] == ("label-alike", ["boat", "Boat"])


@pytest.mark.parametrize(
    ("name", "rank"),
    [("train", 0), ("instances_train2014", 0), ("trainval", 0), ("val", 1), ("Validation", 1), ("dev", 1), ("TEST", 2)],
)
def test_the_name_of_a_split_decides_its_rank(name: str, rank: int) -> None:
    assert split_rank(name) == split_rank(name, first=True) == rank


def test_without_a_known_name_the_first_split_is_for_training(
    good: tuple[Manifest, Manifest],
) -> None:
    assert (split_rank("latest", first=True), split_rank("latest")) == (0, 2)
    train, test = good
    check = run(test, train)  # in whatever order they are given
    assert [each.split for each in check.manifests] == ["train", "test"]
    same = [split(train.root, "part", *each.records) for each in good]
    assert [each.split for each in run(*same).manifests] == ["part", "part-2"]


def test_processes_find_what_one_process_finds_and_an_interrupt_ends_them(
    good: tuple[Manifest, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "IMAGES_PER_PROCESS", 4)
    monkeypatch.setattr(probe_module, "CHUNK", 2)
    paths = [str(good[0].path(index)) for index in range(12)]
    ticks: list[int] = []
    assert probe_all(paths, workers=2, advance=ticks.append) == probe_all(paths)
    assert ticks == [1] * 12

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe_all(paths, workers=2, advance=stop)
    assert multiprocessing.active_children() == []


def test_a_damaged_archive_is_an_issue_of_each_of_its_images(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar")
    check = run(split(tmp_path, "train", Record("a.tar::1.jpg", ("sea",)), Record("b.tar::2.jpg", ("sea",))))
    assert [code for code, _ in found(check)][:2] == ["unreadable", "unreadable"]
    assert io.StringIO(check_text(check.result)).readline().startswith("2 images")
