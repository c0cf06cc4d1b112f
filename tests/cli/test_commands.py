"""``msrn train``, ``evaluate``, ``predict`` and ``summary``: what each prints, and its own mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msrn.cli import main
from msrn.inference.predictor import Predictor
from msrn.ops import semantic_attention as operator

Capture = pytest.CaptureFixture[str]
Wrong = Callable[..., str]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--preset=tiny", "--model.head.pools=[1]"], ["per feature map (3), got [1]", "model.head.pools"]),
        (["train", "--resume", "gone"], ["expected the checkpoint of a run, found none", "at: gone"]),
        (["train", "--preset", "tiny", "--data.train", "gone.csv"], ["gone.csv"]),
        (["train", "--preset", "voc2007"], ["--data.root"]),
        (["labels", "--preset", "tiny", "--data.train", "gone.csv"], ["gone.csv"]),
        (["summary", "--preset", "voc2007"], ["number of labels is not known", "--num_labels N"]),
        (["summary", "gone"], ["expected a bundle", "gone"]),
        (["summary", "--preset", "tiny", "--num_labels", "1"], ["at least two labels, got 1"]),
        (["summary", "--preset", "tiny", "--num_labels", "0"], ["at least one label, got 0"]),
        (["evaluate", "gone"], ["expected a bundle", "gone"]),
        (["evaluate"], ["required: bundle", "see msrn evaluate --help"]),
        (["evaluate", "gone", "--split=tset"], ["expected train, val or test, got 'tset'", "did you mean 'test'?"]),
        (["predict", "gone", "a.jpg"], ["expected a bundle", "gone"]),
        (["predict", "gone"], ["required: images"]),
        (["predict", "gone", "a.jpg", "--format", "xml"], ["expected table, json or csv, got 'xml'", "--format"]),
        (["predict", "gone", "a.jpg", "--top", "many"], ["expected a whole number, got 'many'", "--top"]),
        (["predict", "gone", "a.jpg", "--threshold", "high"], ["expected a number, got 'high'", "--threshold"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in {"train", "labels", "summary", "evaluate", "predict"} else "",
)
def test_mistakes_are_explained_with_what_to_do(
    wrong: Wrong,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--model.head.pools=[1]" in arguments:
        arguments = [*arguments, f"--data.root={scenes}"]
    err = wrong(*arguments)
    assert not [part for part in expected if part not in err], err
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_not_there_is_refused(wrong: Wrong, scenes: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    data = [f"--data.root={scenes}", f"--run.folder={tmp_path / 'run'}"]
    assert "CUDA" in wrong("train", "--preset=tiny", *data, "--run.device=cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [("--batch_size=0", "batch size"), ("--threshold=2", "between 0 and 1"), ("--top=0", "top"), ("--top=-1", "top")],
)
def test_predict_refuses_numbers_out_of_bounds(
    wrong: Wrong, tiny_run: Path, scenes: Path, given: str, expected: str
) -> None:
    assert expected in wrong("predict", str(tiny_run), str(scenes / "images" / "test"), given)


def test_predict_without_any_image_is_a_mistake(wrong: Wrong, tiny_run: Path, tmp_path: Path) -> None:
    err = wrong("predict", str(tiny_run), str(tmp_path))
    assert "found no images" in err
    assert str(tmp_path) in err


@pytest.mark.parametrize(
    ("count", "options", "form"),
    [(1, [], "chunked"), (8, [], "chunked"), (9, [], None), (0, [], None), (1, ["--optimize"], None)],
)
def test_predict_of_a_few_images_does_not_wait_for_the_fused_kernel(
    tiny_run: Path,
    scenes: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    options: list[str],
    form: str | None,
) -> None:
    folder = scenes / "images" / "test"
    asked: list[str] = []
    monkeypatch.setattr(operator, "set_default_form", asked.append)
    monkeypatch.setattr(Predictor, "predict", lambda *_, **__: iter([]))
    files = [str(path) for path in sorted(folder.iterdir())[:count]] or [str(folder)]
    main(["predict", str(tiny_run), *files, *options])
    assert asked[:1] == ([form] if form else [])  # then the former one is restored


def test_summary_shows_the_cost_of_a_bundle_and_of_a_model_before_there_is_data(
    capsys: Capture, tiny_run: Path
) -> None:
    assert main(["summary", str(tiny_run), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["labels"] == len(json.loads((tiny_run / "bundle" / "bundle.json").read_text())["labels"])
    planned = ["--preset=tiny", "--num_labels=4", "--model.head.output_layer=flatten", "--data.batch_size=2"]
    assert main(["summary", *planned]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "test_resnet" in out
    assert "4 labels" in out
    assert "2 images" in out


def test_summary_of_a_bundle_takes_no_number_of_labels(wrong: Wrong, tiny_run: Path) -> None:
    assert "a bundle has its own labels" in wrong("summary", str(tiny_run), "--num_labels=3")


def test_a_prediction_of_few_images_leaves_the_form_of_the_operator_as_it_was(tiny_run: Path, scenes: Path) -> None:
    from msrn.ops import semantic_attention as module

    image = scenes / "images" / "test" / "000000.jpg"
    assert main(["predict", str(tiny_run), str(image)]) == 0
    assert module._default_form == "auto"
    assert main(["predict", str(tiny_run), "gone.jpg"]) == 1
    assert module._default_form == "auto"
