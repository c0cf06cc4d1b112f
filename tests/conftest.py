"""What every test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data sets, published numbers and goldens; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the shared folder beside the checkout (real data and published numbers), which is absent")
    return SHARED
