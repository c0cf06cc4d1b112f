"""The commands in sequence: labels, train, interrupt, resume, evaluate, predict."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from msrn.bundle.metadata import read_metadata
from msrn.cli import main
from msrn.demo.run import run_demo
from msrn.engine.learner import Learner
from msrn.engine.trainer import Trainer

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def flags(scenes: Path, tmp_path: Path) -> list[str]:
    data = ["--data.reader=table", f"--data.root={scenes}", "--data.val=val", "--data.test=test"]
    return ["--preset=tiny", *data, f"--run.folder={tmp_path / 'run'}", "--run.device=cpu"]


def test_train_evaluate_and_predict(capsys: Capture, flags: list[str], tmp_path: Path, scenes: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", *flags, "--optim.epochs=3"]) == 0
    out = capsys.readouterr().out
    assert "best validation mAP" in out
    assert f"bundle     {run / 'bundle'}" in out
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if line["event"] == "epoch"]
    assert losses[0] > losses[1] > losses[2]
    assert yaml.safe_load((run / "settings.yaml").read_text())["optim"]["epochs"] == 3

    assert main(["evaluate", str(run), "--split=test"]) == 0
    out = capsys.readouterr().out
    metrics = json.loads((run / "evaluation-test.json").read_text())
    assert f"mAP {100 * metrics['mAP']:.2f}" in out
    assert str(run / "evaluation-test.json") in out
    assert metrics["images"] == 12
    assert {row["label"] for row in metrics["per_label"]} <= set(out.split())
    assert main(["evaluate", str(run / "bundle")]) == 0  # the bundle knows its data; val is the default
    assert json.loads((run / "evaluation-val.json").read_text())["images"] == 13
    assert main(["evaluate", str(run), "--tuned", f"--out={tmp_path / 'tuned.json'}"]) == 0
    assert json.loads((tmp_path / "tuned.json").read_text())["images"] == 13
    capsys.readouterr()

    images = str(scenes / "images" / "test")
    assert main(["predict", str(run), images, "--format=json", "--batch_size=5"]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [Path(row["image"]).name for row in rows] == [f"{number:06}.jpg" for number in range(12)]
    assert all(len(row["probabilities"]) == 16 for row in rows)
    assert all(set(row["labels"]) <= set(row["probabilities"]) for row in rows)

    assert main(["predict", str(run / "bundle"), images, "--format=csv", "--threshold=0"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["sun"]) for row in table] == pytest.approx(
        [row["probabilities"]["sun"] for row in rows], abs=2e-6
    )
    assert all(len(row["labels"].split("|")) == 16 for row in table)

    assert main(["predict", str(run), images, "--top=2"]) == 0
    out = capsys.readouterr().out
    assert [line.count(",") for line in out.splitlines()] == [1] * 12


@pytest.mark.parametrize("style", ["json", "csv", "table"])
def test_unreadable_files_are_reported_in_their_rows_and_by_the_exit_code(
    capsys: Capture, tiny_run: Path, scenes: Path, tmp_path: Path, style: str
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    image = str(scenes / "images" / "test" / "000000.jpg")
    files = [image, str(tmp_path / "broken.jpg"), str(tmp_path / "gone.jpg"), image]
    assert main(["predict", str(tiny_run), *files, f"--format={style}"]) == 1
    out, err = capsys.readouterr()
    assert err == "2 of 4 images could not be read\n"
    rows = out.splitlines()[style == "csv" :]
    assert [file in row for file, row in zip(files, rows, strict=True)] == [True] * 4
    assert ["got something else" in row for row in rows] == [False, True, False, False]
    assert ["found no file" in row for row in rows] == [False, False, True, False]


def test_an_interrupted_command_names_the_command_that_continues_it(
    capsys: Capture, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Learner.step

    def step(self: Learner, number: int, *args: Any, **options: Any) -> None:
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, number, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        assert main(["train", *flags]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert f"continue with: msrn train --resume {tmp_path / 'run'}" in err
    assert main(["train", *flags]) == 2  # started anew in the same folder
    assert "already holds a run" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path / "run"), "--optim.lr=0.5"]) == 2
    err = capsys.readouterr().err
    assert "optim.lr was 0.003 in this run and is now 0.5" in err
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert "best validation mAP" in capsys.readouterr().out


def test_thresholds_are_chosen_again_without_training(capsys: Capture, flags: list[str], tmp_path: Path) -> None:
    bundle = tmp_path / "run" / "bundle"
    assert main(["train", *flags, "--optim.epochs=1"]) == 0
    before = (bundle / "bundle.json").read_bytes()
    rule = ["--thresholds.rule=recall", "--thresholds.target=0.8", "--thresholds.min_positives=1"]
    assert main(["thresholds", str(bundle), *rule]) == 2
    err = capsys.readouterr().err
    assert "tuned thresholds: best F1 per label; 0.5 where the split cannot support one; on 13 images" in err
    assert "--force" in err
    assert (bundle / "bundle.json").read_bytes() == before
    assert main(["thresholds", str(bundle), *rule, "--force", "--data.val=test"]) == 0
    out = capsys.readouterr().out
    assert "recall of at least 0.8; 0.5 where the split cannot support one; on 12 images" in out
    metadata = read_metadata(bundle)
    assert metadata.thresholds_split is not None
    assert metadata.thresholds_split.name == "test"
    for name in metadata.labels:
        row = metadata.threshold_support[name]
        assert (row.recall is not None and row.recall >= 0.8) == row.tuned
        assert f"{metadata.thresholds[name]:.4f}" in out
    again = tmp_path / "tuned.json"
    assert main(["evaluate", str(bundle), "--tuned", "--split=test", f"--out={again}"]) == 0
    tree = json.loads(again.read_text())
    assert tree["model"]["tuned_on_this_split"]
    for row in tree["per_label"]:
        support = metadata.threshold_support[row["label"]]
        if support.tuned:
            assert (row["precision"], row["recall"]) == pytest.approx((support.precision, support.recall))


def test_thresholds_are_not_chosen_on_the_images_of_training(capsys: Capture, flags: list[str], tmp_path: Path) -> None:
    assert main(["train", *flags, "--data.val=none", "--optim.epochs=1"]) == 0
    capsys.readouterr()
    assert main(["thresholds", str(tmp_path / "run"), "--data.val=train"]) == 2
    assert "the model was trained on these very images" in capsys.readouterr().err
    assert main(["thresholds", str(tmp_path / "run"), "--data.val=val"]) == 0  # none were tuned: nothing to force


def test_a_run_folder_can_be_moved_and_resumed(
    capsys: Capture, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "evaluate_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["train", *flags]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert main(["train", "--resume", str(tmp_path / "moved")]) == 0
    assert f"run folder {tmp_path / 'moved'}" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_the_command(capsys: Capture, flags: list[str]) -> None:
    assert main(["train", *flags, "--data.val=none", "--optim.name=sgd", "--optim.lr=1e30"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: the loss is " in err
    assert "at step " in err
    assert "images/train/" in err
    assert "hint: lower optim.lr" in err
    assert "Traceback" not in err


def test_training_without_a_validation_split_keeps_the_last_epoch(capsys: Capture, flags: list[str]) -> None:
    assert main(["train", *flags, "--data.val=none"]) == 0
    assert "no validation split: the weights of epoch 2, the last, are kept" in capsys.readouterr().out


def test_a_run_without_a_folder_goes_to_runs(
    capsys: Capture, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    without = [flag for flag in flags if "run.folder" not in flag]
    assert main(["train", *without, "--optim.epochs=1"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("tiny-")
    assert f"run folder runs/{folder.name}" in capsys.readouterr().out


def test_labels_shows_names_counts_and_edges(capsys: Capture, scenes: Path) -> None:
    assert main(["labels", "--preset=tiny", f"--data.root={scenes}", "--data.val=val"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "16 labels, 48 images" in out
    assert "umbrella" in out


def test_a_table_of_the_users_is_one_command_away(capsys: Capture, scenes: Path, tmp_path: Path) -> None:
    tiny = ["--model.backbone=test_resnet", "--model.weights=none", "--model.final_conv=false", "--data.image_size=64"]
    quick = ["--model.head.pools=[1,1,1]", "--labels.embeddings=random", "--data.workers=0", "--optim.epochs=1"]
    folder = [f"--run.folder={tmp_path / 'run'}", "--data.batch_size=8", "--optim.warmup_epochs=0"]
    table = ["--preset=custom", f"--data.train={scenes / 'train.csv'}"]
    assert main(["train", *table, *tiny, *quick, *folder]) == 0
    assert "best validation mAP" in capsys.readouterr().out  # a part of the table was held out


def test_the_demo_continues_where_it_was_stopped(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msrn.config import merge
    from msrn.demo import run as demo
    from msrn.presets import preset

    monkeypatch.setattr(demo, "TRAIN", 48)
    monkeypatch.setattr(demo, "VAL", 13)
    monkeypatch.setattr(demo, "TEST", 12)
    small = {key: preset("tiny")[key] for key in ("labels", "model", "optim")}
    small["model"]["final_conv"] = False
    data = {"image_size": 64, "batch_size": 8, "workers": 0}
    monkeypatch.setattr(demo, "preset", lambda name: merge(preset(name), {**small, "data": data}))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "score", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "demo")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "check", lambda *_: ([1.0], True))
        assert run_demo(tmp_path / "demo") == 130
    assert run_demo(tmp_path / "demo") == 0
    out = capsys.readouterr().out
    assert "test mAP" in out
    assert (tmp_path / "demo" / "predictions.png").stat().st_size > 1000
    assert json.loads((tmp_path / "demo" / "run" / "evaluation-test.json").read_text())["images"] == 12


def test_a_bundle_is_calibrated_from_the_command_line(capsys: Capture, flags: list[str], tmp_path: Path) -> None:
    assert main(["train", *flags, "--optim.epochs=1"]) == 0
    capsys.readouterr()
    assert main(["calibrate", str(tmp_path / "run"), "--method=platt", "--min_support=3"]) == 0
    out = capsys.readouterr().out
    assert "platt, fitted on 13 images" in out
    assert f"written into {tmp_path / 'run' / 'bundle'}" in out
    assert main(["calibrate", str(tmp_path / "run"), "--min_support=0"]) == 2
    assert "--min_support" in capsys.readouterr().err
