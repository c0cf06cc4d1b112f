"""Every example runs, and so does the head of the README."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from msrn import Predictor, registry, train
from msrn.config import Settings

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
Capture = pytest.CaptureFixture[str]


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> object:
    """Run an example as a program; its exit code."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def test_tag_a_folder_prints_one_object_per_image(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tiny_run: Path, scenes: Path
) -> None:
    assert run(monkeypatch, "tag_a_folder.py", str(tiny_run), str(scenes / "images" / "test"), "--top=2") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 12
    assert all(len(row["best"]) == 2 for row in rows)
    assert run(monkeypatch, "tag_a_folder.py", str(scenes), str(scenes)) == 2
    assert "expected a bundle" in capsys.readouterr().err


def test_tag_a_folder_reports_images_that_it_cannot_read(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert run(monkeypatch, "tag_a_folder.py", str(tiny_run), str(tmp_path)) == 1
    assert "error" in json.loads(capsys.readouterr().out)


def test_plot_runs_draws_a_figure(monkeypatch: pytest.MonkeyPatch, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    assert run(monkeypatch, "plot_runs.py", str(tiny_run), f"{tiny_run}=again", f"--out={out}") == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def readme_head() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    (block,) = [block for block in blocks if "registry.HEADS" in block]
    return block


@pytest.mark.parametrize(
    ("name", "source", "options"),
    [
        ("both_pools", (EXAMPLES / "custom_head.py").read_text(encoding="utf-8"), {"dropout": 0.2}),
        ("mean", readme_head(), {"dropout": 0.3}),
    ],
)
def test_a_head_of_ones_own_trains_resumes_and_predicts_like_a_built_in_one(
    monkeypatch: pytest.MonkeyPatch,
    tiny: Callable[..., Settings],
    scenes: Path,
    tmp_path: Path,
    name: str,
    source: str,
    options: dict[str, float],
) -> None:
    module = ModuleType("my_head")
    monkeypatch.setitem(sys.modules, "my_head", module)
    monkeypatch.setattr(registry, "HEADS", dict(registry.HEADS))
    monkeypatch.setattr(registry, "KINDS", {**registry.KINDS, "head": registry.HEADS})
    exec(compile(source, "my_head.py", "exec"), module.__dict__)
    settings = tiny(tmp_path / "run", model={"head": {"name": name, **options}}, optim={"epochs": 1})
    assert settings.model.head.model_dump() == {"name": name, **options}
    bundle = train(settings).bundle
    assert train(settings, resume=True).bundle == bundle
    (prediction,) = Predictor.load(bundle).predict([scenes / "images" / "test" / "000000.jpg"])
    assert len(prediction.ranked) == 16
