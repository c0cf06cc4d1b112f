"""Small images for the cases that were met in the field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from PIL import Image

from msrn.cli import main


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Write drawings: ``images("a.jpg", "img/b.png")`` returns the folder they are in."""

    def write(*names: str) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            small = np.random.default_rng(number).integers(0, 256, (5, 6, 3), np.uint8)
            Image.fromarray(small).resize((48, 36), Image.Resampling.BICUBIC).save(path)
        return tmp_path

    return write


@dataclass(frozen=True)
class Said:
    """What a command ended with and said."""

    code: int
    out: str
    err: str


@pytest.fixture
def msrn(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, scenes: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Said]:  # fmt: skip
    """Run a command in an empty folder beside ``data``, a copy of the scenes; what it logs counts as said."""
    copytree(scenes, tmp_path / "data")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        caplog.clear()
        with caplog.at_level("INFO"):
            code = main(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Said(code, out, err + caplog.text)

    return run


@pytest.fixture
def small(msrn: Callable[..., Said]) -> Callable[..., Said]:
    """Train for one epoch on 16 of the scenes: ``small("--run.folder=run")``."""
    head, *rows = Path("data/train.csv").read_text().splitlines()
    Path("data/few.csv").write_text("\n".join([head, *rows[:16]]) + "\n")
    data = ("--data.root=data", "--data.train=few.csv", "--data.val=val", "--data.labels=data/labels.txt")
    return lambda *more: msrn("train", "--preset=tiny", *data, "--run.device=cpu", "--optim.epochs=1", *more)
