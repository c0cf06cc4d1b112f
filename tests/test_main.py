"""The program ends with the right exit code and all its output, though it skips Python's own teardown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def program(*arguments: str, before: str = "pass", **options: object) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.argv = ['msrn', *{list(arguments)!r}]; {before}; from msrn.__main__ import run; run()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--version"], 0), (["--help"], 0), ([], 2), (["predict", "nowhere", "x.jpg"], 2)]
)
def test_exit_codes_are_those_of_the_command_line(arguments: list[str], code: int) -> None:
    assert program(*arguments).returncode == code
    assert subprocess.run([sys.executable, "-m", "msrn", *arguments], capture_output=True).returncode == code


def test_everything_printed_arrives() -> None:
    done = program("train", "--preset", "tiny", "--print_config")
    assert done.returncode == 0
    assert done.stdout.endswith("checkpoint_minutes: 10.0\n")


def test_exit_handlers_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    program("--version", before=f"import atexit; atexit.register(lambda: open({str(mark)!r}, 'w').close())")
    assert mark.exists()


def test_an_exception_outside_the_commands_still_shows_its_trace() -> None:
    broken = "import msrn.cli; msrn.cli.main = lambda: 1 / 0"
    done = program("--version", before=broken)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    whole = [sys.executable, "-m", "msrn", "train", "--preset", "tiny", "--print_config"]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        whole = [sys.executable, "-m", "msrn", "train", "--preset", "tiny", "--print_config"]
        done = subprocess.run(whole, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("kept", [True, False])
def test_memory_that_a_tensor_frees_is_kept_for_the_next(kept: bool) -> None:
    code = f"""
import torch
from msrn.__main__ import keep_freed_memory
if {kept}:
    keep_freed_memory()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
tensor = torch.ones(64 * 2**20)
before = resident()
del tensor
print(before - resident())
"""
    given_back = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert (given_back < 2**20) is kept


def test_garbage_is_collected_late_at_first_and_then_more_often() -> None:
    code = """
import gc
from msrn.__main__ import collect_garbage_seldom
ran = []
collect_garbage_seldom()
gc.callbacks.append(lambda phase, info: phase == "start" and ran.append(len(kept)))
kept = []
for _ in range(1_500_000):
    kept.append([])
print(ran[0], len(ran), gc.get_threshold()[0])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    first, times, threshold = map(int, out.split())
    assert 800_000 < first <= 1_000_000
    assert times > 3
    assert threshold == 100_000
