"""Fixes of a data set: what is left out, what is kept, and which files are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checked_data import found, run, split
from PIL import Image

from msrn.audit.fixes import changes_text, fix_data, fixed_files, write_fixed
from msrn.data.manifest import Manifest, Record
from msrn.errors import DataError


def test_a_fix_leaves_out_what_is_wrong_and_reports_it(spoilt: tuple[Manifest, Manifest]) -> None:
    before = [each.digest for each in spoilt]
    (train, test), changes = fix_data(run(*spoilt))
    assert [each.digest for each in spoilt] == before
    assert test.digest == before[1]
    assert [record.image for record in train.records] == [f"{number}.jpg" for number in range(12)]
    assert train.records[0] == spoilt[0].records[0]
    # 1.jpg shows a horse in its own row and the sea in that of its copy: both become unknown.
    assert set(train.records[1].unknown) == {"horse", "sea"}
    assert train.records[1].positives == ()
    assert [(change.image.image, change.reason) for change in changes] == [
        ("1.jpg", "conflict"),
        ("twin.bmp", "duplicate"),
        ("rival.bmp", "duplicate"),
        ("gone.jpg", "missing"),
        ("broken.jpg", "unreadable"),
        ("./14.jpg", "leak"),
    ]
    assert changes[-1].because_of == run(*spoilt).images[19]
    assert (
        train.source
        == "train list; checked, left out or changed: conflict 1, duplicate 2, leak 1, missing 1, unreadable 1"
    )
    assert "train: 2 left out: the same image comes earlier in the split" in changes_text(changes)
    assert changes_text([]) == "no image was left out"


def test_fixed_manifests_are_clean_and_nothing_is_overwritten(
    spoilt: tuple[Manifest, Manifest], tmp_path: Path
) -> None:
    folder = tmp_path / "checked" / "lists"
    paths, changes = write_fixed(run(*spoilt), folder)
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
        write_fixed(run(*spoilt), folder)
    write_fixed(run(*again), folder, force=True)
    assert paths[2].read_text() == ""


def test_what_one_copy_knows_fills_what_the_other_does_not(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    Image.open(train.root / "0.jpg").save(train.root / "copy.bmp")
    rows = [Record("0.jpg", ("boat",), unknown=("sea", "horse")), *train.records[1:]]
    copy = Record("copy.bmp", (), ("sea",), ("horse",))
    rows[0] = Record("0.jpg", ("boat",), (), ("sea", "horse"))
    copy = Record("copy.bmp", ("boat",), ("sea",), ("horse",))
    (fixed, _), changes = fix_data(run(split(train.root, "train", *rows, copy), test))
    assert fixed.records[0] == Record("0.jpg", ("boat",), ("sea",), ("horse",))
    assert [change.reason for change in changes] == ["duplicate"]


def test_a_fix_that_would_leave_a_split_empty_is_refused(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    with pytest.raises(DataError, match="leave the split empty"):
        fix_data(run(split(train.root, "train", Record("./12.jpg", ("boat",))), test))


def test_splits_of_odd_names_get_files_of_different_names(tmp_path: Path) -> None:
    manifests = [split(tmp_path, name, Record("1.jpg")) for name in ("train/a", "train a", "../test", "test")]
    names = [path.relative_to(tmp_path).as_posix() for path in fixed_files(manifests, tmp_path)]
    assert names == ["1-train_a.jsonl", "2-train_a.jsonl", ".._test.jsonl", "test.jsonl", "left-out.jsonl"]
