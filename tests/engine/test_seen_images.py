"""Evaluation knows which images a model has seen: the parts that training made, and overlaps of splits by image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from msrn.bundle.metadata import read_metadata
from msrn.config import Settings
from msrn.engine.evaluate import evaluate
from msrn.engine.trainer import Trainer, train
from msrn.errors import ConfigError, DataError

Tiny = Callable[..., Settings]


@pytest.fixture(scope="module")
def held_out(tiny: Tiny, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table ``t.csv`` of 48 images, and ``run``, which held 10 of them out."""
    folder = tmp_path_factory.mktemp("held")
    (folder / "t.csv").write_text((scenes / "train.csv").read_text().replace("images/", f"{scenes}/images/"))
    train(tiny(folder / "run", data={"root": "", "train": str(folder / "t.csv"), "val": ""}, optim={"epochs": 1}))
    return folder


@pytest.fixture
def folder(held_out: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(held_out, tmp_path / "copy"))


def settings_of(tiny: Tiny, folder: Path, **data: str) -> Settings:
    return tiny("unused", data={"root": "", "train": str(folder / "t.csv"), "val": "", **data}, run={"seed": 3})


def test_the_parts_of_training_are_read_back_whatever_the_seed_and_whatever_was_added(
    tiny: Tiny, folder: Path, scenes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = read_metadata(folder / "run").splits
    with (folder / "t.csv").open("a") as table:
        table.write(f"{scenes}/images/test/000000.jpg,sun\n")
    val, _ = evaluate(folder / "run", settings_of(tiny, folder), split="val", out=folder / "val.json")
    assert val.data.digest == recorded["val"].digest
    assert val.metrics.mean_ap == json.loads((folder / "run" / "metrics-val.json").read_text())["mAP"]
    caplog.clear()
    kept, _ = evaluate(folder / "run", settings_of(tiny, folder), split="train", out=folder / "train.json")
    assert kept.data.images == recorded["train"].images + 1  # with the new one, without those held out
    assert kept.model is not None
    assert kept.model.images_trained_on == recorded["train"].images
    assert f"trained on {recorded['train'].images} of these {recorded['train'].images + 1} images" in caplog.text


@pytest.mark.parametrize("change", ["a label", "an image that is gone"])
def test_held_out_images_that_are_not_as_they_were_are_refused(tiny: Tiny, folder: Path, change: str) -> None:
    head, *rows = (folder / "t.csv").read_text().splitlines()
    if change == "a label":
        rows = [row.replace(",sun", ",moon").replace(",tree", ",sun") for row in rows]
    (folder / "t.csv").write_text("\n".join([head, *(rows if change == "a label" else rows[:30])]) + "\n")
    with pytest.raises(DataError, match=r"expected the 10 images that training held out(?s:.*)--data\.val"):
        evaluate(folder / "run", settings_of(tiny, folder), split="val", out=folder / "val.json")


def test_a_split_that_was_never_set_is_not_made_up(tiny: Tiny, tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no val split is set"):
        evaluate(tiny_run, tiny("unused", data={"val": ""}), split="val", out=tmp_path / "m.json")


def test_images_that_were_trained_on_or_tuned_on_are_counted_in_any_split(
    tiny: Tiny, tiny_run: Path, scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head, *test = (scenes / "test.csv").read_text().splitlines()
    seen = [(scenes / f"{name}.csv").read_text().splitlines()[1:3] for name in ("train", "val")]
    (tmp_path / "mixed.csv").write_text("\n".join([head, *test, *seen[0], seen[1][0]]) + "\n")
    settings = tiny("unused", data={"test": str(tmp_path / "mixed.csv")})
    evaluation, _ = evaluate(tiny_run, settings, split="test", out=tmp_path / "m.json", tuned=True)
    assert evaluation.model is not None
    assert (evaluation.model.images_trained_on, evaluation.model.images_tuned_on) == (2, 1)
    assert "trained on 2 of these 15 images" in caplog.text
    assert "tuned on 1 of these 15 images" in caplog.text
    assert not evaluation.model.tuned_on_this_split


def test_validation_images_that_are_trained_on_are_told_when_a_run_begins(
    tiny: Tiny, scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head, *rows = (scenes / "val.csv").read_text().splitlines()
    more = (scenes / "train.csv").read_text().splitlines()[1:4]
    (tmp_path / "val.csv").write_text("\n".join([head, *rows, *more]) + "\n")
    Trainer(tiny(tmp_path / "run", data={"val": str(tmp_path / "val.csv")}), resume=False)
    assert "3 of 16 validation images are in the training split too" in caplog.text
