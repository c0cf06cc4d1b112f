"""The program: commands, help, exit codes, and how errors are shown."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from msrn import registry
from msrn.cli import main
from msrn.cli.command import Command
from msrn.errors import DataError

Capture = pytest.CaptureFixture[str]
Wrong = Callable[..., str]


@pytest.fixture
def command_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], None]:
    """Replace the command ``demo`` by one that does what it is given."""

    def replace(work: Callable[[], int]) -> None:
        def run(_args: Namespace) -> int:
            return work()

        monkeypatch.setattr(sys.modules[__name__], "COMMAND", Command("does it", "Does it.", run), raising=False)
        monkeypatch.setitem(registry.COMMANDS, "demo", f"{__name__}:COMMAND")
        monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])

    return replace


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command_with_its_summary(capsys: Capture, flag: str) -> None:
    assert main([flag]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: msrn COMMAND")
    for name in registry.names("command"):
        assert re.search(rf"^  {name} +{re.escape(registry.load('command', name).summary)}$", out, re.MULTILINE)


def test_help_of_a_group_lists_its_commands(capsys: Capture) -> None:
    assert main(["data", "--help"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("usage: msrn data COMMAND")
    assert [name for name in registry.names("command") if name in out] == [
        name for name in registry.names("command") if name.startswith("data ")
    ]


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_without_a_command_help_goes_to_stderr_and_the_exit_code_is_2(capsys: Capture, arguments: list[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: msrn ")


@pytest.mark.parametrize("name", registry.names("command"))
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_given_for_every_command_whatever_else_stands_there(capsys: Capture, name: str, flag: str) -> None:
    assert main([*name.split(), "positional", flag]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: msrn {name} ")
    assert registry.load("command", name).description in out


def test_help_of_everything_loads_no_torch() -> None:
    program = (
        "import sys, msrn.cli\n"
        "assert msrn.cli.main(['--help']) == msrn.cli.main(['data', '--help']) == 0\n"
        "assert msrn.cli.main(['predict', '--help']) == msrn.cli.main(['data', 'check', '--help']) == 0\n"
        "assert msrn.cli.main(['evaluate', '--help']) == 0\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numba', 'lightning_fabric', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_printed(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"msrn \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], ["there is no command 'trian'", "did you mean 'train'?"]),
        (["data", "splt"], ["there is no command 'data splt'", "did you mean 'data split'?"]),
        (["zzz"], ["there is no command 'zzz'", "see msrn --help"]),
        (["--train"], ["there is no command '--train'"]),
    ],
)
def test_an_unknown_command_is_answered_with_the_nearest(
    wrong: Wrong, arguments: list[str], expected: list[str]
) -> None:
    err = wrong(*arguments)
    assert not [part for part in expected if part not in err], err


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_that_of_the_command(command_that: Callable[..., None], code: int) -> None:
    command_that(lambda: code)
    assert main(["demo"]) == code


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def test_a_users_mistake_is_printed_without_a_trace(capsys: Capture, command_that: Callable[..., None]) -> None:
    command_that(raising(DataError("no images", "a.csv, line 3", "add some")))
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == "error: no images\n  at: a.csv, line 3\n  hint: add some\n"


def test_debug_adds_the_trace(capsys: Capture, command_that: Callable[..., None]) -> None:
    for error in (DataError("no images"), PermissionError(errno.EACCES, "Permission denied", "a.csv")):
        command_that(raising(error))
        assert main(["demo", "--debug"]) == 2
        assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_exception_has_its_own_exit_code_and_asks_for_a_report(
    capsys: Capture, command_that: Callable[..., None]
) -> None:
    command_that(raising(ZeroDivisionError("division by zero")))
    assert main(["demo"]) == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" in err
    assert "ZeroDivisionError: division by zero" in err
    assert err.splitlines()[-1].startswith("error: ")
    assert "please report it" in err.splitlines()[-1]


def test_an_interrupt_is_reported_by_exit_code_130(capsys: Capture, command_that: Callable[..., None]) -> None:
    command_that(raising(KeyboardInterrupt()))
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


FREE = "  hint: free space there, then run the command again\n"
WRITABLE = "  hint: make it writable, or choose another place, then run the command again\n"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), f"No space left on device\n  at: runs/x\n{FREE}"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), f"Permission denied\n  at: a\n{WRITABLE}"),
        (OSError("the disk is gone"), "the disk is gone\n  at: demo\n"),
    ],
)
def test_an_error_of_the_system_is_printed_without_a_trace(
    capsys: Capture, command_that: Callable[..., None], error: OSError, expected: str
) -> None:
    command_that(raising(error))
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == f"error: {expected}"


def test_a_file_that_cannot_be_written_is_reported_without_a_trace(
    wrong: Wrong, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in wrong("evaluate", str(tiny_run), "--out", str(tmp_path / "file" / "m.json"))


def test_a_reader_that_goes_away_ends_predict_quietly(
    capsys: Capture, tiny_run: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `msrn predict ... | head -1` does
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        code = main(["predict", str(tiny_run), str(scenes / "images" / "test"), "--format=json"])
    assert code == 0
    assert "error" not in capsys.readouterr().err


def test_python_m_msrn_is_msrn_and_keeps_results_apart_from_messages(tiny_run: Path, scenes: Path) -> None:
    image = scenes / "images" / "test" / "000000.jpg"
    done = subprocess.run(
        [sys.executable, "-m", "msrn", "predict", str(tiny_run), str(image), "gone.jpg", "--format=json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 1
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == [str(image), "gone.jpg"]
    assert done.stderr == "1 of 2 images could not be read\n"
