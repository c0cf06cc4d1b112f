"""Grid files: what is varied, what each run's settings are, and what is refused before hours of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from msrn.compare.grid import Grid, read_grid
from msrn.errors import ConfigError

BASE = "base: {preset: tiny, data: {root: scenes, train: train, val: val, test: test}, optim.epochs: 1}\n"


def grid(folder: Path, text: str, base: str = BASE) -> Grid:
    path = folder / "grid.yaml"
    path.write_text(base + text)
    return read_grid(path)


def refusal(folder: Path, text: str, base: str = BASE) -> str:
    with pytest.raises(ConfigError) as caught:
        grid(folder, text, base)
    return str(caught.value)


def test_every_combination_is_a_run_with_its_own_settings(tmp_path: Path) -> None:
    found = grid(
        tmp_path,
        """
vary:
  model.head: [average_pool, csra]
  recipe:
    slow: {optim.lr: 0.001}
    with asl: {loss: asl, optim: {lr: 0.01, ema: 0.9}}
seeds: [3, 4]
reference: {recipe: with asl}
""",
    )
    assert [(cell.variant, cell.seed) for cell in found.cells[:3]] == [
        ("average_pool · slow", 3),
        ("average_pool · slow", 4),
        ("average_pool · with asl", 3),
    ]
    last = found.cells[-1].settings
    assert (last.model.head.name, last.loss.name, last.optim.lr, last.optim.ema) == ("csra", "asl", 0.01, 0.9)
    assert (last.run.seed, last.optim.epochs, last.model.backbone) == (4, 1, "test_resnet")
    assert found.cells[0].settings.loss.name == "soft_margin"
    assert found.reference == "average_pool · with asl"
    assert len({cell.folder_name for cell in found.cells}) == 8


def test_options_of_a_head_are_an_axis_and_numbers_are_names(tmp_path: Path) -> None:
    found = grid(
        tmp_path, "vary:\n  model.head: [csra]\n  model.head.residual: [0.1, 0.3]\n  data.image_size: [64, 96]\n"
    )
    assert [cell.variant for cell in found.cells] == [
        "csra · 0.1 · 64",
        "csra · 0.1 · 96",
        "csra · 0.3 · 64",
        "csra · 0.3 · 96",
    ]
    assert found.cells[2].settings.model.head.residual == 0.3
    assert found.reference == "csra · 0.1 · 64"


def test_the_folder_of_a_run_follows_what_shapes_its_result_alone(tmp_path: Path) -> None:
    text = "vary: {model.head: [average_pool]}\n"
    one = grid(tmp_path, text).cells[0].folder_name
    assert (
        grid(tmp_path, text, BASE.replace("optim.epochs: 1", "optim.epochs: 1, data.workers: 0")).cells[0].folder_name
        == one
    )
    assert grid(tmp_path, text, BASE.replace("optim.epochs: 1", "optim.epochs: 2")).cells[0].folder_name != one


def test_problems_of_all_runs_come_together_each_once(tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        "vary:\n  model.head: [average_pool, csrb]\n  recipe: {a: {optim.rate: 1}, b: {optim.lr: -1}}\nseeds: [0, 1]\n",
    )
    assert said.count("there is no head named 'csrb'") == 1
    assert "did you mean 'csra'?" in said
    assert said.count("unknown setting optim.rate") == 1
    assert said.count("optim.lr: expected a number above 0, got -1") == 1
    assert "average_pool · a" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vary: {}\n", "at least 1 value"),
        ("varied: {model.head: [csra]}\nvary: {loss: [asl]}\n", "did you mean 'vary'?"),
        ("vary: {model.head: [csra, csra]}\n", "expected different values"),
        ("vary: {loss: [asl]}\nreference: {head: csra}\n", "there is no axis 'head'"),
        ("vary: {loss: [asl]}\nreference: {loss: als}\n", "did you mean 'asl'?"),
        ("vary: {loss: [asl]}\nseeds: [-1]\n", "at least 0"),
    ],
)
def test_what_a_grid_cannot_mean_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(tmp_path, text)


def test_figures_are_reported_on_images_that_chose_nothing_or_the_file_says_otherwise(tmp_path: Path) -> None:
    without = BASE.replace(", test: test", "")
    text = "vary: {loss: [asl]}\n"
    assert "data.test is not set" in refusal(tmp_path, text, without)
    assert grid(tmp_path, text + "evaluate: val\n", without).evaluate == "val"
