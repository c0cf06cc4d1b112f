"""Small images for the cases that were met in the field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
