"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from msrn.config import Settings

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data sets, published numbers and goldens; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the shared folder beside the checkout (real data and published numbers), which is absent")
    return SHARED


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn scenes of 64 pixels: 48 to train on, 13 (an odd number, for shards) and 12. For reading only."""
    from msrn.demo.scenes import write_scenes

    folder = tmp_path_factory.mktemp("drawn") / "scenes"
    write_scenes(folder, train=48, val=13, test=12, size=64)
    return folder


@pytest.fixture(scope="session")
def tiny(scenes: Path) -> Callable[..., Settings]:
    """Settings of the preset ``tiny`` on the drawn scenes: ``tiny(folder, optim={"ema": 0.9})``."""
    from msrn.config import load_settings, merge
    from msrn.presets import preset

    def settings(folder: Path | str, **sections: dict[str, Any]) -> Settings:
        data = {"reader": "table", "root": str(scenes), "train": "train", "val": "val", "test": "test"}
        tree = merge(preset("tiny"), {"data": data, "run": {"folder": str(folder), "device": "cpu"}})
        return load_settings(merge(tree, sections))

    return settings


@pytest.fixture(scope="session")
def tiny_run(tiny: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of ``tiny``. For reading only: copy it to change it."""
    from msrn.engine.trainer import train

    folder = tmp_path_factory.mktemp("trained") / "run"
    train(tiny(folder))
    return folder
