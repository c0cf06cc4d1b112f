"""Output of a check: the table, the JSON and the split groups."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from checked_data import LABELS, added, drawing, found, run, split

from msrn.audit.check import check_data
from msrn.audit.issues import CODES
from msrn.audit.output import check_json, check_text, split_groups_text
from msrn.audit.result import CheckResult
from msrn.data.manifest import Manifest, Record
from msrn.data.split import split_manifest
from msrn.data.split_groups import read_split_groups
from msrn.errors import DataError, Problem, printable


def test_split_groups_keep_near_duplicates_together_in_a_split(tmp_path: Path) -> None:
    rows = []
    for number in range(20):  # each three times: as it is, smaller, and the same again in another file
        drawing(number).save(tmp_path / f"{number}.png")
        drawing(number).resize((48, 36)).save(tmp_path / f"{number} small.png")
        drawing(number).save(tmp_path / f"{number}.bmp")
        names = (f"{number}.png", f"{number} small.png", f"{number}.bmp")
        rows += [Record(name, (LABELS[number % 3],)) for name in names]
    manifest = split(tmp_path, "all", *rows)
    (tmp_path / "near.jsonl").write_text(split_groups_text(run(manifest)))
    parts = split_manifest(manifest, {"a": 0.5, "b": 0.5}, split_groups=[read_split_groups(tmp_path / "near.jsonl")])
    assert len(parts["a"]) == len(parts["b"]) == 30
    numbers = [{re.match(r"\d+", record.image)[0] for record in part.records} for part in parts.values()]  # type: ignore[index]
    assert not numbers[0] & numbers[1]
    assert found(run(*parts.values()))[0][0] == "duplicate"  # within a part
    assert not any("leak" in code for code, _ in found(run(*parts.values())))


def test_split_groups_name_images_by_path_where_two_splits_share_a_name(
    good: tuple[Manifest, Manifest], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    drawing(50).save(other / "0.jpg")
    check = run(good[0], split(other, "test", Record("0.jpg", ("sea",))))
    images = [json.loads(line)["image"] for line in split_groups_text(check).splitlines()]
    assert len(set(images)) == 13
    assert {str(tmp_path / "0.jpg"), str(other / "0.jpg"), "1.jpg"} < set(images)


def test_the_json_has_the_form_of_the_guide(spoilt: tuple[Manifest, Manifest]) -> None:
    check = check_data(spoilt, broken=[Problem("cannot read it", "list.csv, line 3", "correct line 3")])
    tree = json.loads(check_json(check.result))
    assert list(tree) == ["format_version", "near_bits", "splits", "labels", "counts", "issues"]
    assert (tree["format_version"], tree["near_bits"], tree["labels"]) == (1, 8, 3)
    assert tree["splits"][0] == {"name": "train", "source": "train list", "images": 17, "labels": 3, "rank": 0}
    assert tree["counts"] == dict(Counter(each["severity"] for each in tree["issues"])) | {"note": 0}
    first = tree["issues"][0]
    assert first == {
        "severity": "error",
        "code": "source",
        "message": "list.csv, line 3: cannot read it",
        "hint": "correct line 3",
        "images": [],
        "labels": [],
    }
    for each in tree["issues"]:
        assert each.keys() == first.keys()
        assert each["code"] in CODES
        for image in each["images"]:
            assert list(image) == ["split", "image", "path", "position"]
            manifest = next(m for m in spoilt if m.split == image["split"])
            assert manifest.records[image["position"]].image == image["image"]


def test_a_result_is_read_back_from_its_json(spoilt: tuple[Manifest, Manifest]) -> None:
    result = run(*spoilt).result
    assert CheckResult.from_json(json.loads(check_json(result))) == result
    assert check_text(CheckResult.from_json(result.to_json())) == check_text(result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "expected a check of format version 1, got 2"),
        ({"format_version": None}, "got none"),
        ({"issues": [{"severity": "fatal"}]}, "issues.0.severity"),
        ({"labels": "three"}, "labels"),
        ({"splits": None}, "splits"),
    ],
)
def test_json_of_another_version_or_with_damaged_values_is_refused(
    spoilt: tuple[Manifest, Manifest], change: dict[str, object], message: str
) -> None:
    tree = json.loads(check_json(run(*spoilt).result)) | change
    with pytest.raises(DataError) as caught:
        CheckResult.from_json(tree, "check.json")
    assert re.search(message, str(caught.value))
    assert "check.json" in str(caught.value)
    with pytest.raises(DataError, match="format version"):
        CheckResult.from_json([tree], "check.json")


def test_the_guide_lists_every_code_with_its_severity() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/check-your-data.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \|", guide, re.MULTILINE)
    assert rows == [(code, kind.severity) for code, kind in CODES.items()]
    assert [kind.severity for kind in CODES.values()] == sorted(
        (kind.severity for kind in CODES.values()), key=["error", "warning", "note"].index
    )


def test_the_table_shows_some_examples_of_each_kind_and_counts_the_rest(spoilt: tuple[Manifest, Manifest]) -> None:
    train, test = spoilt
    text = check_text(run(added(train, *(Record(f"gone{n}.jpg", ("sea",)) for n in range(5))), test).result, examples=2)
    assert text.startswith("28 images (train 22, test 6), 3 labels\n")
    row = next(line for line in text.splitlines() if " missing " in line)
    assert row.split()[:3] == ["error", "missing", "6"]
    assert "gone.jpg" in text
    assert "gone0.jpg" in text
    assert "gone1.jpg" not in text
    assert "and 4 more" in text
    assert re.search(r"\n9 errors, \d warnings, 0 notes$", text)


def test_names_cannot_control_the_terminal(good: tuple[Manifest, Manifest]) -> None:
    train, test = good
    evil = "\x1b[31m[bold]\udcff\n.jpg"
    text = check_text(run(added(train, Record(evil, ("sea",))), test).result, width=300)
    assert "\\x1b[31m[bold]\\udcff\\n.jpg" in text
    assert "\x1b" not in text
    assert printable("sea 海 \u202e") == "sea 海 \\u202e"
    result = run(added(train, Record(evil, ("sea",))), test).result
    assert CheckResult.from_json(json.loads(check_json(result))) == result
    text.encode()


def test_images_without_labels_are_counted_over_all_splits(good: tuple[Manifest, Manifest]) -> None:
    train, test = (split(each.root, each.split, *each.records[:-1], Record(each.records[-1].image)) for each in good)
    text = check_text(run(train, test).result)
    assert re.search(r"note +no-labels +2 ", text)
