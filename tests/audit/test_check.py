"""Checking a data set: each defect is planted in a set of good pictures, and found as what it is, and nothing else."""

from __future__ import annotations

import io
import json
import multiprocessing
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import msrn.audit.check as check_module
import msrn.audit.probe as probe_module
from msrn.audit.check import Check, check_data, contradictions, split_rank
from msrn.audit.fixes import changes_text, mend, mended_files, write_mended
from msrn.audit.issues import CODES
from msrn.audit.label_names import alike_names, nearly_alike_names
from msrn.audit.output import check_json, check_text, groups_text, printable
from msrn.audit.probe import picture_size, probe, probe_all
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.webdataset import read_shards
from msrn.data.split import split_manifest
from msrn.data.split_groups import read_groups
from msrn.data.writers.convert import convert
from msrn.errors import DataError, Problem
from msrn.labels.space import LabelSpace

LABELS = LabelSpace(["boat", "horse", "sea"])


def drawing(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def split(root: Path, name: str, *records: Record, labels: LabelSpace = LABELS) -> Manifest:
    return Manifest(records, labels, name, root, f"{name} list")


@pytest.fixture
def good(tmp_path: Path) -> tuple[Manifest, Manifest]:
    """12 pictures to learn from and 6 to be judged by, without a fault at ``least_train=4, least_test=2``."""
    for number in range(18):
        drawing(number).save(tmp_path / f"{number}.jpg")
    rows = [Record(f"{number}.jpg", (LABELS[number % 3],)) for number in range(18)]
    return split(tmp_path, "train", *rows[:12]), split(tmp_path, "test", *rows[12:])


def run(*manifests: Manifest, near_bits: int | None = 8) -> Check:
    return check_data(manifests, near_bits=near_bits, least_train=4, least_test=2)


def found(check: Check) -> list[tuple[str, list[str]]]:
    """Codes with what they are about."""
    return [
        (each.code, [f"{p.split}/{p.image}" for p in each.pictures] or list(each.labels)) for each in check.findings
    ]


def added(manifest: Manifest, *records: Record) -> Manifest:
    return split(manifest.root, manifest.split, *manifest.records, *records, labels=manifest.labels)


def test_nothing_is_found_in_a_good_data_set(good: tuple[Manifest, Manifest]) -> None:
    check = run(*good)
    assert found(check) == []
    assert check_text(check) == "18 pictures (train 12, test 6), 3 labels: nothing found"


def test_pictures_that_are_gone_cut_short_or_no_pictures_are_errors(good: tuple[Manifest, Manifest]) -> None:
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
    assert "truncated" in check.findings[1].message
    assert check.counts == {"error": 4, "warning": 0, "note": 0}


@pytest.mark.parametrize(
    ("name", "draw", "code", "told"),
    [
        ("a.jpg", lambda path: drawing(90).save(path, "PNG"), "suffix", ".jpg holds PNG"),
        ("a.PNG", lambda path: drawing(90).save(path, "JPEG"), "suffix", ".png holds JPEG"),
        ("a.png", lambda path: Image.new("RGB", (60, 50), "teal").save(path), "blank", "60 x 50"),
        ("a.png", lambda path: drawing(90, 31, 40).save(path), "tiny", "31 x 40"),
        ("a.png", lambda path: drawing(90, 40, 204).save(path), "narrow", "40 x 204"),
        ("a.jpeg", lambda path: drawing(90, 4899, 4900).save(path, "JPEG"), "large", "4899 x 4900"),
    ],
)
def test_strange_pictures_are_told_by_their_code(
    good: tuple[Manifest, Manifest], name: str, draw: Callable[[Path], None], code: str, told: str
) -> None:
    train, test = good
    draw(train.root / name)
    check = run(added(train, Record(name, ("sea",))), test)
    if code == "large":  # 24.0051 megapixels, just above the bound
        assert check_module.MANY_PIXELS < 4899 * 4900
    assert found(check) == [(code, [f"train/{name}"])]
    assert told in check.findings[0].message


@pytest.mark.parametrize("name", ["a.jfif", "a.JPG", "a.jpe", "noname", "a.unheard"])
def test_usual_and_unknown_suffixes_are_left_alone(good: tuple[Manifest, Manifest], name: str) -> None:
    train, test = good
    drawing(91).save(train.root / name, "JPEG")
    assert found(run(added(train, Record(name, ("sea",))), test)) == []


def test_a_picture_lying_on_its_side_is_measured_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    drawing(0, 90, 60).save(tmp_path / "a.jpg", exif=exif)
    assert (probe(str(tmp_path / "a.jpg")).width, probe(str(tmp_path / "a.jpg")).height) == (60, 90)
    assert picture_size(str(tmp_path / "a.jpg")) == (60, 90)
    assert picture_size(str(tmp_path / "gone.jpg")) is None


def test_the_same_picture_is_found_whatever_its_file_says(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    Image.open(train.root / "3.jpg").save(train.root / "copy.bmp")
    check = run(added(train, Record("copy.bmp", ("boat",))), test)
    assert found(check) == [("duplicate", ["train/3.jpg", "train/copy.bmp"])]
    assert check.counts == {"error": 0, "warning": 1, "note": 0}


def test_leakage_is_named_and_not_taken_for_a_mere_duplicate(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    check = run(train, added(test, Record("./5.jpg", ("sea",))))
    assert found(check) == [("leak", ["train/5.jpg", "test/./5.jpg"])]
    assert check.findings[0].severity == "error"
    assert "leakage" in check_text(check)


def test_the_same_picture_with_other_labels_is_a_conflict_unless_they_are_unknown(
    good: tuple[Manifest, Manifest],
) -> None:
    train, test = good
    Image.open(train.root / "0.jpg").save(train.root / "copy.png")
    check = run(added(train, Record("copy.png", ("sea", "boat"))), test)
    assert found(check)[0] == ("conflict", ["train/0.jpg", "train/copy.png"])
    assert check.findings[0].labels == ("sea",)
    check = run(added(train, Record("copy.png", ("boat",), unknown=("sea", "horse"))), test)
    assert [code for code, _ in found(check)] == ["duplicate"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Record("a", ("x",)), Record("b", ("x",)), []),
        (Record("a", ("x",)), Record("b", ("y",)), ["x", "y"]),
        (Record("a", ("x",)), Record("b", (), ("x",)), []),  # difficult is present
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
    assert check.findings[0].labels == ("horse", "sea")  # and what they disagree on
    assert found(run(more, test, near_bits=None)) == []


def test_without_imagehash_exact_duplicates_are_found_and_the_report_says_what_is_missing(
    good: tuple[Manifest, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "imagehash_is_there", lambda: False)
    train, test = good
    check = run(train, added(test, Record("./5.jpg", ("sea",))))
    assert [code for code, _ in found(check)] == ["leak", "near-not-checked"]
    assert "pip install" in check.findings[1].hint
    assert check.near_bits is None


def test_pictures_in_shards_are_checked_where_they_lie(good: tuple[Manifest, Manifest], tmp_path: Path) -> None:
    train, test = good
    drawing(14).save(train.root / "leaked.jpg")
    folder = convert(added(train, Record("leaked.jpg", ("sea",))), tmp_path / "shards", "webdataset")
    packed = read_shards(sorted(folder.glob("*.tar")), split="train")
    check = run(packed, test)
    assert [code for code, _ in found(check)] == ["leak"]
    assert found(check)[0][1] == ["train/train-000000.tar::00000012.jpg", "test/14.jpg"]


def test_labels_that_are_rare_absent_or_everywhere_are_told(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    labels = LabelSpace([*LABELS, "whale", "always"])
    rows = [Record(r.image, (*r.positives, "always")) for r in train.records]
    rows[0] = Record("0.jpg", (), ("boat", "whale", "always"))  # difficult ones count
    check = run(split(train.root, "train", *rows, labels=labels), test)
    assert [(each.code, each.message) for each in check.findings] == [
        ("label-absent", "'whale': no picture in test"),
        ("label-absent", "'always': no picture in test"),
        ("label-rare", "'whale': 1 in train, fewer than 4 to learn"),
        ("label-always", "'always': all 12 pictures of train"),
    ]


def test_pictures_without_labels_are_told_from_those_of_which_nothing_is_known(
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


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["Dog", "cat", "dog"], [("Dog", "dog")]),
        (["tv monitor", "tvmonitor", "TV-Monitors"], [("tv monitor", "tvmonitor", "TV-Monitors")]),
        (
            ["horse", "horses", "bus", "buses", "berry", "berries"],
            [("horse", "horses"), ("bus", "buses"), ("berry", "berries")],
        ),
        (["café", "cafe"], [("café", "cafe")]),
        (["dress", "glass", "bus", "gas", "his", "hi", "class 1", "class 11"], []),
        (["+", "-", "!"], []),
        ([], []),
    ],
)
def test_names_that_differ_in_spelling_alone_are_found(names: list[str], alike: list[tuple[str, ...]]) -> None:
    assert alike_names(names) == alike


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["motorbike", "motorbkie"], 1),  # swapped
        (["aeroplane", "airplane"], 1),  # two edits
        (["umbrella", "umbrela", "dog"], 1),
        (["cat", "car", "boat", "goat"], 0),  # too short
        (["class 1", "class 2", "class 11"], 0),  # digits are meant
        (["bicycle", "bicycles"], 0),  # alike already
        (["horse", "house"], 1),
        (["trousers", "trumpets"], 0),
    ],
)
def test_names_a_letter_or_two_apart_are_found(names: list[str], pairs: int) -> None:
    assert len(nearly_alike_names(names)) == pairs


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
def test_a_splits_name_says_what_it_is_for(name: str, rank: int) -> None:
    assert split_rank(name) == split_rank(name, first=True) == rank


def test_without_a_telling_name_the_first_split_learns_and_others_judge(good: tuple[Manifest, Manifest]) -> None:
    assert (split_rank("latest", first=True), split_rank("latest")) == (0, 2)
    train, test = good
    check = run(test, train)  # in whatever order they are given
    assert [each.split for each in check.manifests] == ["train", "test"]
    same = [split(train.root, "part", *each.records) for each in good]
    assert [each.split for each in run(*same).manifests] == ["part", "part-2"]


def test_processes_find_what_one_process_finds_and_an_interrupt_ends_them(
    good: tuple[Manifest, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "PER_PROCESS", 4)
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


@pytest.fixture
def spoilt(good: tuple[Manifest, Manifest]) -> tuple[Manifest, Manifest]:
    """The good data set with one leak, a duplicate, a conflict, a missing and a broken picture."""
    train, test = good
    root = train.root
    for name, number in (("twin.bmp", 0), ("rival.bmp", 1)):
        Image.open(root / f"{number}.jpg").save(root / name)
    (root / "broken.jpg").write_bytes(b"no picture")
    more = [
        Record("twin.bmp", ("boat",)),
        Record("rival.bmp", ("sea",), unknown=("boat",)),
        Record("gone.jpg", ("sea",)),
        Record("broken.jpg", ("sea",)),
        Record("./14.jpg", ("sea",)),
    ]
    return added(train, *more), test


def test_mending_leaves_out_what_is_wrong_and_says_so(spoilt: tuple[Manifest, Manifest]) -> None:
    before = [each.digest for each in spoilt]
    (train, test), changes = mend(run(*spoilt))
    assert [each.digest for each in spoilt] == before
    assert test.digest == before[1]
    assert [record.image for record in train.records] == [f"{number}.jpg" for number in range(12)]
    assert train.records[0] == spoilt[0].records[0]
    # 1.jpg shows a horse, says its own list; sea, says the other: nobody knows.
    assert set(train.records[1].unknown) == {"horse", "sea"}
    assert train.records[1].positives == ()
    assert [(change.picture.image, change.reason) for change in changes] == [
        ("1.jpg", "conflict"),
        ("twin.bmp", "duplicate"),
        ("rival.bmp", "duplicate"),
        ("gone.jpg", "missing"),
        ("broken.jpg", "unreadable"),
        ("./14.jpg", "leak"),
    ]
    assert changes[-1].because_of == run(*spoilt).pictures[19]
    assert (
        train.source
        == "train list; checked, left out or changed: conflict 1, duplicate 2, leak 1, missing 1, unreadable 1"
    )
    assert "train: 2 left out, for the same picture stands before" in changes_text(changes)
    assert changes_text([]) == "nothing was left out"


def test_mended_manifests_are_clean_and_nothing_is_overwritten(
    spoilt: tuple[Manifest, Manifest], tmp_path: Path
) -> None:
    folder = tmp_path / "checked" / "lists"
    paths, changes = write_mended(run(*spoilt), folder)
    assert [path.name for path in paths] == ["train.jsonl", "test.jsonl", "left-out.jsonl"]
    again = [Manifest.read(path) for path in paths[:2]]
    assert found(run(*again)) == [("label-rare", ["horse"]), ("no-labels", ["train/1.jpg"])]  # of the conflict
    lines = [json.loads(line) for line in paths[2].read_text().splitlines()]
    assert len(lines) == len(changes)
    assert lines[1] == {
        "split": "train",
        "image": "twin.bmp",
        "reason": "duplicate",
        "because_of": {"split": "train", "image": "0.jpg"},
        "labels": [],
    }
    with pytest.raises(DataError, match="--force"):
        write_mended(run(*spoilt), folder)
    write_mended(run(*again), folder, force=True)
    assert paths[2].read_text() == ""


def test_what_one_copy_knows_fills_what_the_other_does_not(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    Image.open(train.root / "0.jpg").save(train.root / "copy.bmp")
    rows = [Record("0.jpg", ("boat",), unknown=("sea", "horse")), *train.records[1:]]
    copy = Record("copy.bmp", (), ("sea",), ("horse",))
    rows[0] = Record("0.jpg", ("boat",), (), ("sea", "horse"))
    copy = Record("copy.bmp", ("boat",), ("sea",), ("horse",))
    (mended, _), changes = mend(run(split(train.root, "train", *rows, copy), test))
    assert mended.records[0] == Record("0.jpg", ("boat",), ("sea",), ("horse",))
    assert [change.reason for change in changes] == ["duplicate"]


def test_a_split_of_which_nothing_would_be_left_is_refused(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    with pytest.raises(DataError, match="nothing would be left"):
        mend(run(split(train.root, "train", Record("./12.jpg", ("boat",))), test))


def test_groups_keep_near_duplicates_together_in_a_split(tmp_path: Path) -> None:
    rows = []
    for number in range(20):  # each three times: as it is, smaller, and the same again in another file
        drawing(number).save(tmp_path / f"{number}.png")
        drawing(number).resize((48, 36)).save(tmp_path / f"{number} small.png")
        drawing(number).save(tmp_path / f"{number}.bmp")
        names = (f"{number}.png", f"{number} small.png", f"{number}.bmp")
        rows += [Record(name, (LABELS[number % 3],)) for name in names]
    manifest = split(tmp_path, "all", *rows)
    (tmp_path / "near.jsonl").write_text(groups_text(run(manifest)))
    parts = split_manifest(manifest, {"a": 0.5, "b": 0.5}, groups=[read_groups(tmp_path / "near.jsonl")])
    assert len(parts["a"]) == len(parts["b"]) == 30
    numbers = [{re.match(r"\d+", record.image)[0] for record in part.records} for part in parts.values()]  # type: ignore[index]
    assert not numbers[0] & numbers[1]
    assert found(run(*parts.values()))[0][0] == "duplicate"  # within a part
    assert not any("leak" in code for code, _ in found(run(*parts.values())))


def test_groups_name_pictures_by_path_where_two_splits_call_them_the_same(
    good: tuple[Manifest, Manifest], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    drawing(50).save(other / "0.jpg")
    check = run(good[0], split(other, "test", Record("0.jpg", ("sea",))))
    images = [json.loads(line)["image"] for line in groups_text(check).splitlines()]
    assert len(set(images)) == 13
    assert {str(tmp_path / "0.jpg"), str(other / "0.jpg"), "1.jpg"} < set(images)


def test_json_has_the_form_that_the_guide_tells(spoilt: tuple[Manifest, Manifest]) -> None:
    check = check_data(spoilt, broken=[Problem("cannot read it", "list.csv, line 3", "mend line 3")])
    told = json.loads(check_json(check))
    assert list(told) == ["msrn_data_check", "near_bits", "splits", "counts", "findings"]
    assert (told["msrn_data_check"], told["near_bits"]) == (1, 8)
    assert told["splits"][0] == {"name": "train", "source": "train list", "pictures": 17, "labels": 3, "rank": 0}
    assert told["counts"] == dict(Counter(each["severity"] for each in told["findings"])) | {"note": 0}
    first = told["findings"][0]
    assert first == {
        "severity": "error",
        "code": "source",
        "message": "list.csv, line 3: cannot read it",
        "hint": "mend line 3",
        "pictures": [],
        "labels": [],
    }
    for each in told["findings"]:
        assert each.keys() == first.keys()
        assert each["code"] in CODES
        for picture in each["pictures"]:
            assert list(picture) == ["split", "image", "path", "position"]
            manifest = next(m for m in spoilt if m.split == picture["split"])
            assert manifest.records[picture["position"]].image == picture["image"]


def test_the_guide_tells_every_code_with_its_severity() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/check-your-data.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \|", guide, re.MULTILINE)
    assert rows == [(code, kind.severity) for code, kind in CODES.items()]
    assert [kind.severity for kind in CODES.values()] == sorted(
        (kind.severity for kind in CODES.values()), key=["error", "warning", "note"].index
    )


def test_the_table_shows_some_examples_of_each_kind_and_counts_the_rest(spoilt: tuple[Manifest, Manifest]) -> None:
    train, test = spoilt
    text = check_text(run(added(train, *(Record(f"gone{n}.jpg", ("sea",)) for n in range(5))), test), examples=2)
    assert text.startswith("28 pictures (train 22, test 6), 3 labels\n")
    row = next(line for line in text.splitlines() if " missing " in line)
    assert row.split()[:3] == ["error", "missing", "6"]
    assert "gone.jpg" in text
    assert "gone0.jpg" in text
    assert "gone1.jpg" not in text
    assert "and 4 more" in text
    assert re.search(r"\n9 errors, \d warnings, 0 notes$", text)


def test_names_cannot_write_on_the_terminal(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    evil = "\x1b[31m[bold]\udcff\n.jpg"
    text = check_text(run(added(train, Record(evil, ("sea",))), test), width=300)
    assert "\\x1b[31m[bold]\\udcff\\n.jpg" in text
    assert "\x1b" not in text
    assert printable("sea 海 \u202e") == "sea 海 \\u202e"
    json.loads(check_json(run(added(train, Record(evil, ("sea",))), test))).get("findings")
    text.encode()


def test_a_damaged_container_is_a_finding_of_each_of_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar")
    check = run(split(tmp_path, "train", Record("a.tar::1.jpg", ("sea",)), Record("b.tar::2.jpg", ("sea",))))
    assert [code for code, _ in found(check)][:2] == ["unreadable", "unreadable"]
    assert io.StringIO(check_text(check)).readline().startswith("2 pictures")


def test_splits_of_odd_names_get_files_of_different_names(tmp_path: Path) -> None:
    manifests = [split(tmp_path, name, Record("1.jpg")) for name in ("train/a", "train a", "../test", "test")]
    names = [path.relative_to(tmp_path).as_posix() for path in mended_files(manifests, tmp_path)]
    assert names == ["1-train_a.jsonl", "2-train_a.jsonl", ".._test.jsonl", "test.jsonl", "left-out.jsonl"]
