"""Drawn scenes: reproducible, labelled with what is visible, related as in real scenes, and written safely."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msrn.data.readers.table import read_table
from msrn.demo.scenes import LABELS, draw_scene, write_scenes
from msrn.demo.scenes.backdrops import GROUNDS
from msrn.demo.scenes.clutter import CLUTTER
from msrn.demo.scenes.compose import SCENES, Layer, visible
from msrn.demo.scenes.pen import Pen
from msrn.demo.scenes.shapes import LABELLED
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

COUNTS = {"train": 5, "val": 2, "test": 3}


@pytest.fixture(scope="module")
def label_rows() -> np.ndarray:
    """Labels of 300 scenes, (300, L) of booleans."""
    drawn = [draw_scene((0, 0, index), 64)[1] for index in range(300)]
    return np.array([[label in labels for label in LABELS] for labels in drawn])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "scenes"
    write_scenes(folder, **COUNTS, size=64)
    return folder


def rows(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def square(side: int, *, corner: tuple[int, int], depth: float, label: str) -> Layer:
    return Layer(Image.new("RGBA", (side, side), (200, 0, 0, 255)), corner, depth, label)


def test_a_seed_gives_the_same_image_and_labels_again_and_another_seed_another():
    image, labels = draw_scene((3, 1, 4), 96)
    again, labels_again = draw_scene((3, 1, 4), 96)
    other, _ = draw_scene((3, 1, 5), 96)
    assert image.size == (96, 96)
    assert image.mode == "RGB"
    assert image.tobytes() == again.tobytes()
    assert labels == labels_again
    assert image.tobytes() != other.tobytes()


def test_every_scene_has_a_label_and_labels_keep_their_order():
    for index in range(30):
        _, labels = draw_scene(index, 64)
        assert labels
        assert list(labels) == [label for label in LABELS if label in labels]


def test_no_label_is_rare_or_always_present(label_rows: np.ndarray):
    rates = dict(zip(LABELS, label_rows.mean(0), strict=True))
    assert all(0.05 < rate < 0.45 for rate in rates.values()), rates
    assert 2 < label_rows.sum(1).mean() < 4


def test_the_sun_never_shines_with_the_moon_or_a_star(label_rows: np.ndarray):
    sun, moon, star = (label_rows[:, LABELS.index(label)] for label in ("sun", "moon", "star"))
    assert not (sun & (moon | star)).any()


@pytest.mark.parametrize(
    ("one", "other"), [("boat", "fish"), ("moon", "star"), ("umbrella", "person"), ("mountain", "tree")]
)
def test_labels_of_one_kind_of_scene_occur_together_more_often_than_by_chance(
    label_rows: np.ndarray, one: str, other: str
):
    a, b = label_rows[:, LABELS.index(one)], label_rows[:, LABELS.index(other)]
    assert (a & b).mean() > 1.2 * a.mean() * b.mean()


def test_the_kinds_of_scene_list_only_objects_and_grounds_that_exist():
    for scene in SCENES.values():
        assert scene.labels.keys() <= LABELLED.keys()
        assert set(scene.clutter) <= CLUTTER.keys()
        assert scene.ground in GROUNDS
    assert not LABELLED.keys() & CLUTTER.keys()


@pytest.mark.parametrize("name", [*LABELLED, *CLUTTER])
def test_an_object_fills_its_box_and_is_not_cut_off_in_any_pose(name: str):
    thing = {**LABELLED, **CLUTTER}[name]
    for seed in range(6):
        angle = np.radians(thing.tilt) * (seed - 2.5) / 2.5
        pen = Pen(20, angle, rng=np.random.default_rng(seed), mirror=-1 if seed % 2 else 1, squeeze=1.15, ink=0.04)
        thing.draw(pen)
        alpha = np.asarray(pen.sprite().getchannel("A"))
        assert (alpha > 128).sum() > 0.08 * 40 * 40
        assert not np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]]).any()


def test_an_object_that_is_hidden_too_much_is_removed_and_hides_nothing():
    whole = square(20, corner=(10, 10), depth=1, label="near")
    hidden = square(20, corner=(12, 12), depth=0, label="hidden")
    half = square(20, corner=(24, 10), depth=0.5, label="partly")
    outside = square(20, corner=(-15, 40), depth=2, label="outside")
    speck = square(2, corner=(50, 50), depth=3, label="speck")
    layers = sorted([whole, hidden, half, outside, speck], key=lambda layer: layer.depth)
    assert [layer.label for layer in visible(layers, 64)] == ["partly", "near"]
    assert [layer.label for layer in visible([hidden, half], 64)] == ["hidden", "partly"]


def test_the_folder_holds_images_tables_labels_and_options(folder: Path):
    assert (folder / "labels.txt").read_text(encoding="utf-8").split() == list(LABELS)
    assert json.loads((folder / "scenes.json").read_text(encoding="utf-8")).items() >= {**COUNTS, "size": 64}.items()
    for split, count in COUNTS.items():
        table = rows(folder, split)
        assert [row["image"] for row in table] == [f"images/{split}/{index:06d}.jpg" for index in range(count)]
        for row in table:
            assert set(row["labels"].split("|")) <= set(LABELS)
            with Image.open(folder / row["image"]) as image:
                assert image.size == (64, 64)
    assert [path.name for path in folder.parent.iterdir()] == ["scenes"]


def test_no_image_is_in_two_splits_and_a_longer_set_begins_with_a_shorter_one(folder: Path, tmp_path: Path):
    files = [path.read_bytes() for path in (folder / "images").rglob("*.jpg")]
    assert len(set(files)) == len(files) == sum(COUNTS.values())
    write_scenes(tmp_path / "longer", train=6, val=2, test=3, size=64)
    assert rows(tmp_path / "longer", "train")[:5] == rows(folder, "train")
    for row in rows(folder, "test"):
        assert (tmp_path / "longer" / row["image"]).read_bytes() == (folder / row["image"]).read_bytes()


def test_several_processes_draw_what_one_draws(folder: Path, tmp_path: Path):
    done: list[tuple[int, int]] = []
    write_scenes(tmp_path / "scenes", **COUNTS, size=64, workers=2, progress=lambda *numbers: done.append(numbers))
    assert done == [(number, 10) for number in range(1, 11)]
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / "scenes" / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_a_complete_data_set_is_kept_and_an_incomplete_or_other_one_drawn_again(tmp_path: Path):
    target = tmp_path / "scenes"
    write_scenes(target, train=2, val=1, test=1, size=32)
    first = target / "images/train/000000.jpg"
    drawn, before = first.read_bytes(), first.stat().st_mtime_ns
    write_scenes(target, train=2, val=1, test=1, size=32)
    assert first.stat().st_mtime_ns == before
    first.unlink()
    write_scenes(target, train=2, val=1, test=1, size=32)
    assert first.read_bytes() == drawn
    write_scenes(target, train=2, val=1, test=1, size=32, seed=1)
    assert first.read_bytes() != drawn
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


@pytest.mark.parametrize("content", ["photographs", "{}", "[]"])
def test_a_folder_of_other_files_is_refused_and_left_unchanged(tmp_path: Path, content: str):
    mine = tmp_path / "scenes.json"
    mine.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="found other files") as caught:
        write_scenes(tmp_path, train=1, val=1, test=1, size=32)
    assert caught.value.where == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["scenes.json"]
    assert mine.read_text(encoding="utf-8") == content


def test_an_empty_folder_is_filled(tmp_path: Path):
    (tmp_path / "scenes").mkdir()
    write_scenes(tmp_path / "scenes", train=1, val=0, test=0, size=32)
    assert len(rows(tmp_path / "scenes", "train")) == 1


def test_a_failed_drawing_leaves_no_files(tmp_path: Path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "scenes", train=2, val=1, test=1, size=32, progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"size": 31}, {"seed": -1}, {"train": -1}])
def test_numbers_out_of_bounds_are_refused(tmp_path: Path, wrong: dict[str, int]):
    with pytest.raises(DataError, match="got size"):
        write_scenes(tmp_path / "scenes", **{"train": 1, "val": 1, "test": 1, **wrong})


def test_a_written_set_reads_back_with_all_labels_in_order(folder: Path):
    manifest = read_table(folder / "test.csv", LabelSpace.read(folder / "labels.txt"))
    assert tuple(manifest.labels) == LABELS
    assert [record.image for record in manifest.records] == [row["image"] for row in rows(folder, "test")]
    assert [set(record.positives) for record in manifest.records] == [
        set(row["labels"].split("|")) for row in rows(folder, "test")
    ]
