"""The limits that SECURITY.md states are those of the program."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| .* \| ([\d,]+) \| `(\w+)` in `([\w/]+)\.py` \|$", PAGE, re.MULTILINE)


def test_the_table_of_limits_is_read() -> None:
    assert len(ROWS) == 10


@pytest.mark.parametrize(("number", "name", "module"), ROWS)
def test_a_limit_is_the_constant_that_the_page_names(number: str, name: str, module: str) -> None:
    assert getattr(importlib.import_module(f"msrn.{module.replace('/', '.')}"), name) == int(number.replace(",", ""))
