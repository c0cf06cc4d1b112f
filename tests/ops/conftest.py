"""The operator in its default form."""

from __future__ import annotations

import pytest

from msrn.ops import semantic_attention as operator


@pytest.fixture(autouse=True)
def default_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` in every test of this folder, whatever ran before it in this process; restored afterwards."""
    monkeypatch.setattr(operator, "_default_form", "auto")
