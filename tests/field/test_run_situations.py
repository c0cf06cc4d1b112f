"""More of the kinds of the cases: what an honest user types, and what others leave in files."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from msrn.inference.predictor import Predictor

Run = Callable[..., Any]
IMAGE = "data/images/test/000000.jpg"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--optim.lr=1e40"], "optim.lr: expected at most 1e+30"),
        (["--run.seed=1180591620717411303424"], "run.seed: expected a number below"),
        (["--data.labels=few.txt"], "the training split has labels that the label file lacks: "),
        (["--model.weights=None"], "expected none, in lower case"),
        (["--run.evaluate_every=2", "--data.val=none"], "has no effect: data.val is none"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anything_is_written(
    small: Run, flags: list[str], expected: str
) -> None:
    Path("few.txt").write_text("sun\nmoon\n")
    said = small(*flags, "--run.folder=run")
    assert said.code == 2
    assert expected in said.err
    assert not Path("run").exists()


def test_the_home_folder_is_found_in_settings_files_too(msrn: Run) -> None:
    Path("c.yaml").write_text(
        "preset: tiny\nrun: {folder: ~/r}\ndata: {train: ~/x.csv}\nlabels: {embeddings: ~/e.npz}\n"
    )
    found = yaml.safe_load(msrn("train", "--config=c.yaml", "--print_config").out)
    home = os.path.expanduser("~")
    assert (found["run"]["folder"], found["data"]["train"]) == (f"{home}/r", f"{home}/x.csv")
    assert found["labels"]["embeddings"] == f"{home}/e.npz"


def test_steps_of_the_rate_that_a_run_does_not_reach_are_named(small: Run) -> None:
    said = small("--optim.schedule=step", "--optim.step_epochs=[1,9]", "--run.folder=run")
    assert said.code == 0
    assert "optim.step_epochs 1, 9: the run of 1 epochs ends before" in said.err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["run", "--run.folder=else"], "--resume names the run folder"),
        (["run/bundle"], "pass the run folder: --resume run"),
        (["run/last.pt"], "pass the run folder: --resume run"),
        (["junk"], "the checkpoint is damaged"),
        (["other"], "found no settings, data, progress, model, optimizer in it"),
    ],
)
def test_what_cannot_be_resumed_says_what_can(msrn: Run, tiny_run: Path, given: list[str], expected: str) -> None:
    shutil.copytree(tiny_run, "run")
    for name in ("junk", "other"):
        Path(name).mkdir()
    Path("junk/last.pt").write_bytes(b"junk")
    torch.save({"epoch": 3}, "other/last.pt")
    said = msrn("train", "--resume", *given)
    assert said.code == 2
    assert expected in said.err


def test_a_bundle_by_itself_leads_to_no_other_file_whatever_its_settings_name(msrn: Run, tiny_run: Path) -> None:
    shutil.copytree(tiny_run / "bundle", "bare")
    Path("secret").write_text("root:x:0:0\nuser:x:1:1\n")
    secret = str(Path("secret").resolve())
    tree = json.loads(Path("bare/bundle.json").read_text())
    tree["settings"]["data"] |= dict.fromkeys(("root", "train", "val", "test", "labels"), secret)
    tree["settings"]["labels"] |= dict.fromkeys(("aliases", "embeddings", "graph_file"), secret)
    tree["settings"]["model"]["weights"] = tree["settings"]["model"]["head"]["checkpoint"] = secret
    Path("bare/bundle.json").write_text(json.dumps(tree))
    for command in (["predict", "bare", IMAGE], ["summary", "bare"], ["labels", "--bundle", "bare"]):
        assert msrn(*command).code == 0
    said = msrn("evaluate", "bare", "--split=test", "--out=m.json")
    assert said.code == 2
    assert "they lead elsewhere: data.root, data.train, data.val, data.test" in said.err
    assert "root:x" not in said.err
    assert msrn("evaluate", "bare", "--split=test", "--data.test=data/test.csv", "--out=m.json").code == 0


def test_one_name_that_is_no_path_does_not_end_a_prediction(msrn: Run, tiny_run: Path) -> None:
    said = msrn("predict", str(tiny_run), IMAGE, "", "x" * 5000, "a\0b", IMAGE, "--format=json")
    assert said.code == 1
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert ["error" in row for row in rows] == [False, True, True, True, False]
    assert "empty text" in rows[1]["error"]


def test_scores_that_are_no_numbers_are_an_error_of_the_image(
    msrn: Run, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "probabilities", lambda self, images: np.full((len(images), 16), np.nan))
    said = msrn("predict", str(tiny_run), IMAGE, "--format=json")
    assert said.code == 1
    assert "not finite" in json.loads(said.out)["error"]


def test_top_holds_for_csv_as_well(msrn: Run, tiny_run: Path) -> None:
    rows = [
        next(csv.DictReader(io.StringIO(msrn("predict", str(tiny_run), IMAGE, "--format=csv", *top).out)))
        for top in ([], ["--top=2"])
    ]
    shown = {name for name, cell in rows[1].items() if cell and name not in ("image", "labels")}
    best = sorted(
        (name for name in rows[0] if name not in ("image", "labels", "error")), key=lambda n: -float(rows[0][n])
    )
    assert shown == set(best[:2])


def test_an_unknown_flag_is_named_before_its_value_is_taken_for_something_else(msrn: Run) -> None:
    assert "did you mean '--bundle'?" in msrn("labels", "--bundel", "run").err
    assert "unknown option --fraction" in msrn("data", "split", "--fraction", "0.2").err
