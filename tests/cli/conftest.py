"""What the tests of commands share: run one that must fail, and the settings that one resolves to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from msrn.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def wrong(capsys: Capture) -> Callable[..., str]:
    """What a command reports that must fail: exit code 2, nothing on stdout, no trace."""

    def run(*arguments: str) -> str:
        assert main(list(arguments)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert 'File "' not in err
        return err

    return run


@pytest.fixture
def printed(capsys: Capture) -> Callable[..., dict[str, Any]]:
    """The settings that a command resolves to."""

    def run(*arguments: str) -> dict[str, Any]:
        assert main([*arguments, "--print_config"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return yaml.safe_load(out)

    return run
