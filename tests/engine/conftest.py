"""Runs that are interrupted, and runs to compare them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import TRICKY, result

from msrn.config import Settings
from msrn.engine import learner as learning
from msrn.engine.trainer import train

Tiny = Callable[..., Settings]


@pytest.fixture(scope="module")
def whole(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What the runs of TRICKY leave behind when nothing interrupts them; each is trained once."""
    kept: dict[str, dict[str, Any]] = {}

    def get(name: str) -> dict[str, Any]:
        if name not in kept:
            place = tmp_path_factory.mktemp("whole")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(place)  # the folder's name is part of the settings, so all runs are called "run"
                train(tiny("run", **TRICKY[name]))
            kept[name] = result(place / "run")
        return kept[name]

    return get


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """``at_step(n, act)``: act after the n-th step of the next run."""
    original = learning.Learner.step

    def patch(number: int, act: Callable[[], None]) -> None:
        def step(self: Any, done: int, *arguments: Any, **options: Any) -> None:
            original(self, done, *arguments, **options)
            if done + 1 == number:
                act()

        monkeypatch.setattr(learning.Learner, "step", step)

    return patch


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"
