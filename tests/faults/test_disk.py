"""A disk that is full, or becomes read-only, at any write of any command: a message that helps, and nothing torn."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msrn.engine.run_log import RunLog
from msrn.errors import write_hint
from msrn.files import append_whole, atomic_path, atomic_paths, scratch_beside

WHICH = "all" if "MSRN_KILLS" in os.environ else "each"
"""``make faults`` injects at every single change of the file system, the suite once at every kind of change."""

pytestmark = pytest.mark.timeout(3000)
"""The fixture runs a hundred trainings and commands."""

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """What became of every command that met a fault."""
    program = Path(__file__).parents[1] / "helpers" / "disk_faults.py"
    command = [sys.executable, str(program), str(tmp_path_factory.mktemp("disk")), WHICH]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    print(f"{len(found)} faults")
    return found


def described(rows: list[Row]) -> list[str]:
    return [f"{row['command']}, {row['fault']} at {row['change']}: {row}" for row in rows]


def test_every_write_was_tried(rows: list[Row]) -> None:
    tried = {(row["command"], row["change"]) for row in rows if row["fault"] == "full"}
    files = ("last.pt", "settings.yaml", "log.jsonl", "metrics-val.json", "bundle.json")
    expected = {("train", f"open {name}") for name in files}
    expected |= {("train", "mkdir bundle.partial"), ("train", "rename model.safetensors")}  # weights, label inputs
    expected |= {
        (f"{kind} cache", f"open {name}") for kind in ("image", "feature") for name in ("data.bin", "store.json")
    }
    expected |= {("evaluate", "open figures.json"), ("evaluate", "open figures-scores.npz")}
    expected |= {("table", "open out.csv"), ("coco", "open out.json"), ("manifest", "open out.jsonl")}
    expected |= {("webdataset", "open val-000000.tar"), ("webdataset", "open classnames.txt")}
    expected |= {("fix", "open val.jsonl"), ("split groups", "open out.jsonl"), ("show", "open page.html")}
    expected |= {("split", "open train.jsonl"), ("split", "open val.jsonl")}
    expected |= {("labels", "open e.csv"), ("labels", "open g.png")}
    expected |= {(f"predict {style}", "open stdout") for style in ("table", "json", "csv")}
    assert expected <= tried


def test_every_failed_write_ends_with_exit_code_2_and_what_to_do(rows: list[Row]) -> None:
    unclear = [
        row
        for row in rows
        if row["code"] != 2
        or "Traceback" in row["printed"]
        or "error: " not in row["printed"]
        or "  hint: " not in row["printed"]
        or ".part/" in row["printed"]
    ]
    assert not described(unclear)


def test_a_training_says_how_to_continue_once_there_is_something_to_continue(rows: list[Row]) -> None:
    wrong = [
        row
        for row in rows
        if row["command"] == "train"
        and ("run/last.pt" in row["differ"]) != ("continue with: msrn train --resume run" in row["printed"])
    ]
    assert not described(wrong)


def test_a_resumed_training_ends_as_if_nothing_had_happened(rows: list[Row]) -> None:
    assert not described([row for row in rows if row.get("resumed")])


def test_what_was_there_before_is_intact_and_nothing_partial_stays(rows: list[Row]) -> None:
    """A disk that turns read-only keeps what is begun, under a temporary name."""
    wrong = []
    for row in rows:
        if row["command"] in ("train", "image cache", "feature cache"):
            continue  # begun, to be continued
        if row["fault"] == "read-only" and row["change"].startswith(("rename", "rm")):
            continue  # several files, of which some have their names already
        left = [name for name in row["differ"] if not (row["fault"] == "read-only" and "/." in name)]
        wrong += [row] if left and row["over old"] else []
        wrong += [row] if row["fault"] == "full" and row["differ"] else []
    assert not described(wrong)


def test_a_training_on_a_full_disk_leaves_no_temporary_file(rows: list[Row]) -> None:
    begun = [row for row in rows if row["fault"] == "full" and "resumed" in row and row["command"] == "train"]
    strays = [
        row
        for row in begun
        if any("/." in name or "bundle." in name.partition("run/")[2].partition("/")[0] for name in row["differ"])
    ]
    assert begun
    assert not described(strays)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free space there, then go on"),
        (errno.EDQUOT, "free space there, then go on"),
        (errno.EFBIG, "raise the limit on the size of files (ulimit -f), then go on"),
        (errno.EROFS, "make it writable, or choose another place, then go on"),
        (errno.EACCES, "make it writable, or choose another place, then go on"),
        (errno.EIO, ""),
    ],
)
def test_the_hint_is_about_what_the_system_said(number: int, hint: str) -> None:
    assert write_hint(OSError(number, os.strerror(number)), "go on") == hint


class RustError(Exception):
    """As safetensors words it."""


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.ENOSPC, "no space"),
        RustError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("unexpected pos 768 vs 662"),
    ],
    ids=["python", "rust", "c++"],
)
def test_whatever_a_library_makes_of_a_full_disk_names_the_file_and_the_reason(
    tmp_path: Path, raised: Exception
) -> None:
    if isinstance(raised, RuntimeError):
        raised.__context__ = OSError(errno.ENOSPC, "no space")
    path = tmp_path / "new" / "a.bin"

    def write() -> None:
        with atomic_path(path, parents=True) as partial:
            partial.write_bytes(b"half")
            raise raised

    with pytest.raises(OSError, match="No space left on device") as caught:
        write()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert not list(tmp_path.iterdir())


def test_an_error_that_is_not_the_systems_passes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a number"), atomic_path(tmp_path / "a"):
        raise ValueError("not a number")


def test_files_that_belong_together_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    paths = [tmp_path / "new" / name for name in ("a.txt", "b.txt")]

    def write() -> None:
        with atomic_paths(paths, parents=True) as partials:
            partials[0].write_text("whole")
            partials[1].write_text("half")
            raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.filename == str(paths[1])
    assert not list(tmp_path.iterdir())


def test_a_scratch_folder_goes_with_what_it_holds_and_the_error_names_the_target(tmp_path: Path) -> None:
    target = tmp_path / "new" / "shards"
    with pytest.raises(OSError, match="No space left") as caught, scratch_beside(target) as scratch:
        raise OSError(errno.ENOSPC, "no space", str(scratch / "a.tar"))
    assert caught.value.filename == str(target)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("before", [b"", b"whole\n"])
def test_what_cannot_be_appended_whole_is_not_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    path = tmp_path / "log"
    path.write_bytes(before)
    write = os.write

    def short(descriptor: int, data: bytes) -> int:
        """Takes three bytes, then none."""
        if path.stat().st_size >= len(before) + 3:
            raise OSError(errno.ENOSPC, "no space")
        return write(descriptor, bytes(data[:3]))

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="No space left") as caught:
        append_whole(path, b"a line\n")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    log = RunLog(path, keep_until=(0, 0))
    with pytest.raises(OSError, match="No space left"):
        log.write("epoch", step=1)
    assert path.read_bytes() in (b"", before)
    monkeypatch.undo()
    assert append_whole(path, b"a line\n") == path.stat().st_size - 7
