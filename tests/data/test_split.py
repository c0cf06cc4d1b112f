"""Splits: every image once, split groups whole, labels in proportion, the same again for the same seed."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msrn.data.manifest import Manifest, Record
from msrn.data.split import split_manifest, split_report, stratify
from msrn.data.split_groups import read_split_groups, split_group_numbers, split_groups_by_name
from msrn.errors import ConfigError, DataError
from msrn.labels.space import LabelSpace

SHARES = np.array([0.6, 0.25, 0.15])


def labelled(seed: int, images: int, labels: int) -> np.ndarray:
    """Labels from rare to common, that go together by chance."""
    rng = np.random.default_rng(seed)
    return rng.random((images, labels)) < np.geomspace(0.01, 0.5, labels)


def proportions(present: np.ndarray, chosen: np.ndarray, parts: int) -> np.ndarray:
    """``(parts, L)``: share of a label's images that a part got."""
    return np.stack([present[chosen == part].sum(0) for part in range(parts)]) / present.sum(0)


def records(present: np.ndarray) -> tuple[Record, ...]:
    return tuple(
        Record(f"{row:04}.jpg", tuple(f"l{column}" for column in np.flatnonzero(present[row])))
        for row in range(len(present))
    )


def manifest(present: np.ndarray) -> Manifest:
    space = LabelSpace([f"l{column}" for column in range(present.shape[1])])
    return Manifest(records(present), space, "all", Path("/images"), "a test")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(0, 6), st.integers(1, 20))
def test_every_image_is_in_one_part_and_every_group_in_one(seed: int, images: int, labels: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    present = rng.random((images, labels)) < 0.3
    numbers = np.unique(rng.integers(0, groups, images), return_inverse=True)[1]
    chosen = stratify(present, SHARES, split_groups=numbers, seed=seed)
    assert chosen.shape == (images,)
    assert set(chosen.tolist()) <= {0, 1, 2}
    assert all(len(set(chosen[numbers == number].tolist())) == 1 for number in numbers)
    assert np.array_equal(chosen, stratify(present, SHARES, split_groups=numbers, seed=seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 400))
def test_parts_have_the_sizes_that_were_asked_for(seed: int, images: int) -> None:
    present = labelled(seed, images, 8)
    sizes = np.bincount(stratify(present, SHARES, seed=seed), minlength=3)
    assert np.abs(sizes - SHARES * images).max() <= 1


@pytest.mark.parametrize("grouped", [False, True])
def test_labels_are_far_nearer_their_shares_than_by_chance(grouped: bool) -> None:
    present = labelled(0, 2000, 20)
    rng = np.random.default_rng(1)
    numbers = np.unique(rng.integers(0, 400, 2000) if grouped else np.arange(2000), return_inverse=True)[1]

    def off(chosen: np.ndarray) -> float:
        return float(np.abs(proportions(present, chosen, 3) - SHARES[:, None]).mean())

    chance = [off(rng.choice(3, numbers.max() + 1, p=SHARES)[numbers]) for _ in range(30)]
    ours = [off(stratify(present, SHARES, split_groups=numbers, seed=seed)) for seed in range(3)]
    assert max(ours) < min(chance)
    assert max(ours) < np.mean(chance) / 2


def test_a_label_of_ten_images_is_dealt_exactly() -> None:
    present = np.zeros((100, 2), bool)
    present[:10, 0] = True
    present[:40, 1] = True
    chosen = stratify(present, np.array([0.5, 0.3, 0.2]), seed=3)
    np.testing.assert_allclose(proportions(present, chosen, 3), [[0.5, 0.5], [0.3, 0.3], [0.2, 0.2]])


def test_seeds_differ_and_keep_the_shares_of_labels() -> None:
    present = labelled(2, 300, 6)
    one, other = (stratify(present, SHARES, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(proportions(present, one, 3), proportions(present, other, 3), atol=0.1)


def test_a_split_keeps_order_labels_and_root_and_names_its_source() -> None:
    data = manifest(labelled(0, 100, 5))
    split = split_manifest(data, {"train": 0.8, "val": 0.2}, seed=7)
    together = sorted(record.image for part in split.values() for record in part.records)
    assert together == [record.image for record in data.records]
    for name, part in split.items():
        assert [record.image for record in part.records] == sorted(record.image for record in part.records)
        assert (part.split, part.labels, part.root) == (name, data.labels, data.root)
        assert part.source.startswith("a test; ")
        assert "seed 7" in part.source
    assert split_manifest(data, {"train": 0.8, "val": 0.2}, seed=7) == split


def test_difficult_labels_count_and_unknown_ones_do_not() -> None:
    space = LabelSpace(["a", "b"])
    rows = [Record(f"{n}", (), ("a",) if n < 10 else (), ("b",) if n < 30 else ()) for n in range(60)]
    split = split_manifest(Manifest(tuple(rows), space, "", Path()), {"x": 0.5, "y": 0.5})
    assert [sum(bool(record.difficult) for record in part.records) for part in split.values()] == [5, 5]


@pytest.mark.parametrize("parts", [{}, {"a": 0.5}, {"a": 1.0, "b": 0.0}, {"a": 1.5, "b": -0.5}, {"a": float("nan")}])
def test_shares_that_do_not_sum_to_one_are_refused(parts: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        split_manifest(manifest(labelled(0, 10, 2)), parts)


def test_a_part_without_images_is_refused() -> None:
    data = manifest(labelled(0, 20, 2))
    with pytest.raises(DataError, match="would get none"):
        split_manifest(data, {"a": 0.5, "b": 0.5}, split_groups=[[(record.image, "one") for record in data.records]])


def test_groupings_are_joined_and_images_may_be_named_by_their_path() -> None:
    data = manifest(np.zeros((8, 1), bool))
    first = [("0000.jpg", "p"), ("./0001.jpg", "p"), ("0002.jpg", "q")]
    second = [
        ("/images/0001.jpg", "p"),
        ("/images/0002.jpg", "p"),
        ("0003.jpg", "x"),
        ("0003.jpg", "y"),
        ("0004.jpg", "y"),
    ]
    numbers = split_group_numbers(data, [first, second])
    assert numbers[0] == numbers[1] == numbers[2]
    assert numbers[3] == numbers[4]
    assert len(set(numbers.tolist())) == 5
    assert set(numbers.tolist()) == set(range(5))


def test_a_grouping_of_other_images_is_refused_and_some_others_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = manifest(np.zeros((3, 1), bool))
    with pytest.raises(DataError, match="none of the 1 grouped images"):
        split_group_numbers(data, [[("x.jpg", "a")]])
    with caplog.at_level(logging.INFO):
        split_group_numbers(data, [[("x.jpg", "a"), ("0000.jpg", "a")], []])
    assert "1 of 2 grouped images are not in the data set" in caplog.text


def test_groups_are_what_the_first_bracket_matches_in_a_name() -> None:
    data = Manifest((Record("p1/a_1.jpg"), Record("p1/b_1.jpg"), Record("p2/a_1.jpg")), LabelSpace(["x"]), "", Path())
    assert [group for _, group in split_groups_by_name(data, r"(\w+)/")] == ["p1", "p1", "p2"]
    assert [group for _, group in split_groups_by_name(data, r"[ab]_")] == ["a_", "b_", "a_"]
    with pytest.raises(ConfigError, match="2 of 3 image names"):
        split_groups_by_name(data, "p2")
    with pytest.raises(ConfigError, match="regular expression"):
        split_groups_by_name(data, "(")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("g.csv", "image,group\na.jpg,1\nb.jpg,\nc.jpg,1\n"),
        ("g.csv", "\ufeffgroup;labels;path\r\n1;x;a.jpg\r\n;y;b.jpg\r\n1;;c.jpg\r\n"),
        ("g.jsonl", '{"image": "a.jpg", "group": 1}\n{"image": "b.jpg"}\n{"image": "c.jpg", "group": "1"}\n'),
    ],
)
def test_groups_are_read_from_any_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_split_groups(tmp_path / name) == [("a.jpg", "1"), ("c.jpg", "1")]
    with pytest.raises(DataError, match="no column 'patient'"):
        read_split_groups(tmp_path / name, column="patient")


def test_the_report_holds_sizes_and_labels_that_a_part_lacks() -> None:
    present = np.zeros((10, 2), bool)
    present[:, 0] = True
    present[0, 1] = True
    report = split_report(split_manifest(manifest(present), {"train": 0.7, "val": 0.3}))
    lines = report.splitlines()
    assert lines[0].split()[:5] == ["train", "7", "images", "70.0", "%"]
    assert "l1, 100.0 % of its images" in lines[0]
    assert "without any image here: l1" in lines[2]


def test_a_hundred_thousand_images_are_split_in_seconds() -> None:
    import time

    present = labelled(0, 100_000, 80)
    start = time.process_time()
    stratify(present, SHARES)
    assert time.process_time() - start < 20  # it takes about 2
