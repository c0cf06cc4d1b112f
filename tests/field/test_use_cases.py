"""Evaluating, predicting and the command line as users met them in public reports.

``py.typed`` (r26) and what a folder's images are (r13) are looked at here too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import msrn as package

Run = Callable[..., Any]


def test_r13_a_folder_gives_the_images_that_are_read_when_they_are_named(msrn: Run, tiny_run: Path) -> None:
    source = Path("data/images/test/000000.jpg")
    Path("odd").mkdir()
    for name in ("a.jfif", "c.JPE"):
        shutil.copy(source, f"odd/{name}")
    Image.open(source).save("odd/b.avif")
    by_folder = msrn("predict", str(tiny_run), "odd", "--format=json")
    by_name = msrn("predict", str(tiny_run), "odd/a.jfif", "odd/b.avif", "odd/c.JPE", "--format=json")
    assert by_folder.code == by_name.code == 0
    assert [json.loads(line)["image"] for line in by_folder.out.splitlines()] == [
        "odd/a.jfif",
        "odd/b.avif",
        "odd/c.JPE",
    ]
    assert by_folder.out == by_name.out


def test_r17_a_test_split_that_would_not_be_read_is_refused(msrn: Run, tiny_run: Path) -> None:
    run = shutil.copytree(tiny_run, "run")
    before = (run / "metrics-val.json" if isinstance(run, Path) else Path(run) / "metrics-val.json").read_bytes()
    said = msrn("evaluate", "run", "--data.test=data/test.csv")
    assert (said.code, said.out) == (2, "")
    assert "pass --split test" in said.err
    assert Path("run/metrics-val.json").read_bytes() == before
    assert msrn("evaluate", "run", "--data.test=data/test.csv", "--split=test").code == 0
    assert Path("run/metrics-val.json").read_bytes() == before


def test_r18_two_evaluations_have_scores_of_their_own(msrn: Run, tiny_run: Path) -> None:
    head, *rows = Path("data/test.csv").read_text().splitlines()
    Path("data/two.csv").write_text("\n".join([head, *rows[:2]]) + "\n")
    for name, split in (("a", "test"), ("b", "two")):
        said = msrn(
            "evaluate",
            str(tiny_run),
            "--split=test",
            "--data.root=data",
            f"--data.test={split}.csv",
            f"--out={name}.json",
        )
        assert said.code == 0, said.err
    assert [len(np.load(f"{name}-scores.npz")["scores"]) for name in "ab"] == [12, 2]
    for name in "ab":
        figures, scores = json.loads(Path(f"{name}.json").read_text()), np.load(f"{name}-scores.npz")
        assert str(scores["weights"]) == figures["model"]["weights"]
        assert str(scores["digest"]) == figures["data"]["digest"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--optim.learning_rate", "3"], "did you mean '--optim.lr'?"),
        (["--batch-size", "3"], "did you mean '--data.batch_size'?"),
        (["--data.batch-size", "3"], "did you mean '--data.batch_size'?"),
        (["--model.name", "csra"], "did you mean '--model.head.name'?"),
        (["--model.stages", "1,2"], "expected a list such as [1, 2], got '1,2'"),
        (["--model.stages", "-1"], "expected a list such as [1, 2], got -1"),
        (["--model.stages", "1 2"], "expected a list such as [1, 2], got '1 2'"),
        (["--data.val", "None"], "expected none, in lower case"),
        (["--optim.momentum", "0.5"], "has no effect: optim.name is adamw"),
        (["--model.head=max_pool", "--labels.threshold=0.3"], "has no effect: the head max_pool reads no label graph"),
    ],
)  # fmt: skip
def test_r23_flags_that_are_not_as_meant_are_answered_with_what_to_write(
    msrn: Run, flags: list[str], expected: str
) -> None:
    said = msrn("train", "--preset=tiny", "--data.root=data", "--data.val=val", *flags)
    assert said.code == 2
    assert expected in said.err


def test_r23_other_commands_suggest_their_own_flags_and_switches_take_no_value(msrn: Run, tiny_run: Path) -> None:
    assert "did you mean '--format'?" in msrn("predict", "x", "y", "--fromat", "csv").err
    for command in (
        ["evaluate", str(tiny_run), "--tuned", "true"],
        ["predict", str(tiny_run), "data", "--optimize=true"],
    ):
        said = msrn(*command)
        assert said.code == 2
        assert "takes no value, got 'true'" in said.err


def test_r26_types_are_part_of_the_package() -> None:
    assert (Path(package.__file__).parent / "py.typed").is_file()


def test_r30_settings_of_a_later_version_do_not_keep_a_bundle_from_use(msrn: Run, tiny_run: Path) -> None:
    shutil.copytree(tiny_run, "run")
    path = Path("run/bundle/bundle.json")
    tree = json.loads(path.read_text())
    tree["settings"]["data"]["new_option"] = tree["settings"]["optim"]["new_option"] = 1
    path.write_text(json.dumps(tree))
    image = "data/images/test/000000.jpg"
    assert msrn("predict", "run", image).out == msrn("predict", str(tiny_run), image).out
    assert msrn("evaluate", "run", "--split=test", "--out=m.json").code == 0
    assert msrn("summary", "run").code == 0
    assert msrn("labels", "--bundle", "run").code == 0
