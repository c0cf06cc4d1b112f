"""COCO and NUS-WIDE: counts, label orders and splits are the published ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msrn.data.image_names import FoundImages
from msrn.data.manifest import Manifest
from msrn.data.readers import coco, nuswide


def read_coco(root: Path, split: str, **options: Any) -> Manifest:
    return coco.read(coco.Options(**options), str(root), split, None)


def read_nuswide(root: Path, split: str, **options: Any) -> Manifest:
    return nuswide.read(nuswide.Options(**options), str(root), split, None)


def test_the_sample_has_the_labels_that_its_own_annotations_count(shared: Path) -> None:
    root = shared / "data" / "coco_sample"
    for split, images in (("train", 373), ("val", 120)):
        data = read_coco(root, split)
        assert (len(data), len(data.labels)) == (images, 80)
        raw = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        name = {category["id"]: category["name"] for category in raw["categories"]}
        pairs = {(entry["image_id"], name[entry["category_id"]]) for entry in raw["annotations"]}
        shown = Counter(label for record in data.records for label in record.positives)
        assert shown == Counter(label for _, label in pairs)


def published(shared: Path) -> dict[str, set[str]]:
    """Images of the label list that the published program used, and what they show."""
    names = json.loads((shared / "published" / "label_orders.json").read_text())["coco_list_order"]
    lines = (shared / "data" / "label_lists" / "coco2014_train_82081.txt").read_text().splitlines()
    return {line.split(",")[0]: {names[int(n)] for n in line.split(",")[1].split()} for line in lines}


def test_the_sample_shows_what_the_published_list_says(shared: Path) -> None:
    by_number = {int(name[-16:-4]): shown for name, shown in published(shared).items()}
    compared = 0
    for split in ("train", "val"):
        for record in read_coco(shared / "data" / "coco_sample", split).records:
            number = int(Path(record.image).stem)
            if number in by_number:
                compared += 1
                assert set(record.positives) == by_number[number], record
    assert compared == 217


def test_counts_of_a_file_of_the_published_labels_are_the_published_ones(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 82,081 images and 702 without objects, without files of images: where they lie is another test's."""
    lists = published(shared)
    categories = {name: number for number, name in enumerate(sorted(set().union(*lists.values())), start=7)}
    files = [*lists, *(f"empty {number}.jpg" for number in range(702))]
    value = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(files)],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": [
            {"image_id": number, "category_id": categories[label]}
            for number, shown in enumerate(lists.values())
            for label in shown
        ],
    }
    (tmp_path / "instances_train.json").write_text(json.dumps(value), encoding="utf-8")
    (tmp_path / "train2014").mkdir()
    found = lambda root, images: FoundImages([name for name, _ in images], "", [])  # noqa: E731
    monkeypatch.setattr(coco, "resolve_images", found)
    data = read_coco(tmp_path, "train", images="train2014")
    assert len(data) == 82_081
    assert "dropped (702)" in data.source
    target = data.targets("negative")
    together = (target.T @ target).astype(int)
    figures = np.load(shared / "published" / "coco.npz")
    np.testing.assert_array_equal(together.diagonal(), figures["totals"])
    np.fill_diagonal(together, 0)
    np.testing.assert_array_equal(together, figures["counts"])


def test_asls_test_split_is_recognised_by_its_count(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real list, without its images."""
    found = lambda root, images: FoundImages([name for name, _ in images], "", [])  # noqa: E731
    monkeypatch.setattr(nuswide, "resolve_images", found)
    text = (shared / "data" / "label_lists" / "nuswide_test_50720.txt").read_text()
    (tmp_path / "test.txt").write_text(text)
    data = read_nuswide(tmp_path, "test.txt", images=".")
    assert len(data) == 50_720
    assert "50,720 images, ASL's test split" in data.source
    expected = np.zeros(81, int)
    for line in text.splitlines():
        expected[[int(number) for number in line.split(",")[1].split()]] += 1
    assert data.codes().sum(axis=0, dtype=int).tolist() == expected.tolist()


def test_concepts_and_both_orders_are_the_published_ones(shared: Path, tmp_path: Path) -> None:
    orders = json.loads((shared / "published" / "label_orders.json").read_text())
    (tmp_path / "a.jpg").touch()
    (tmp_path / "list.txt").write_text("a.jpg sky\n")
    assert list(read_nuswide(tmp_path, "list.txt").labels) == orders["nuswide_list_order"]
    assert list(read_nuswide(tmp_path, "list.txt", order="published").labels) == orders["nuswide"]


def test_the_common_splits_sum_to_the_whole() -> None:
    images = sorted(nuswide.SPLITS)
    assert 161_789 + 107_859 == 269_648  # all of NUS-WIDE
    assert 125_449 + 83_898 == 209_347  # those with a concept
    assert {161_789, 107_859, 125_449, 83_898, 119_103, 50_720, 150_000, 60_260} == set(images)
