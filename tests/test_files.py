"""Atomic writes: the old content or the new content, the right permissions, and no file left beside it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from msrn import files
from msrn.errors import DataError
from msrn.files import atomic_path, refuse_to_overwrite, remove_partial_files, write_atomically


@pytest.fixture
def umask() -> Iterator[None]:
    """The usual umask, whatever that of the machine is."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("data", "content"), [("a\nb\r\n海\n", "a\nb\r\n海\n".encode()), (b"\xff\x00", b"\xff\x00")])
def test_text_and_bytes_are_written_as_they_are(tmp_path: Path, data: str | bytes, content: bytes) -> None:
    write_atomically(tmp_path / "a.txt", data)
    assert (tmp_path / "a.txt").read_bytes() == content
    write_atomically(str(tmp_path / "a.txt"), "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "new"}


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"

    def fail() -> None:
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise error

    for old in (None, "old"):
        if old:
            path.write_text(old)
        with pytest.raises(type(error)):
            fail()
        assert [each.read_text() for each in tmp_path.iterdir()] == ([old] if old else [])


def test_text_without_a_utf_8_form_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a.txt", "\udcff")
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_killed_half_way_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    program = (
        "import os, signal, sys\n"
        "from msrn.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert all(each.name.startswith(".a.") for each in tmp_path.iterdir() if each != path)


def test_the_content_is_on_disk_before_the_file_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    replace = os.replace
    monkeypatch.setattr(files, "_sync", lambda path: done.append("folder" if path == tmp_path else "content"))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("name"), replace(*paths)))
    write_atomically(tmp_path / "a.txt", "new")
    assert done == ["content", "name", "folder"]


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_permissions_of_the_umask_and_a_replaced_one_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "one")
    assert mode(path) == 0o644
    os.umask(0o027)
    write_atomically(tmp_path / "b.txt", "one")
    assert mode(tmp_path / "b.txt") == 0o640
    path.chmod(0o600)
    write_atomically(path, "two")
    assert mode(path) == 0o600


def test_missing_folders_are_created_only_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    with pytest.raises(FileNotFoundError):
        write_atomically(path, "new")
    assert not list(tmp_path.iterdir())
    write_atomically(path, "new", parents=True)
    assert path.read_text() == "new"


def test_the_temporary_file_has_the_suffix_and_folder_of_the_file(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.csv") as partial:
        assert (partial.suffix, partial.parent) == (".csv", tmp_path)
        assert partial.name.startswith(".a.")
        partial.touch()


@pytest.mark.parametrize("name", ["a" * 255, "a." + "b" * 253, "海" * 85])
def test_the_longest_names_can_be_written(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, "new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "a.txt")
    for text in ("one", "two"):
        write_atomically(tmp_path / "link.txt", text)
        assert (tmp_path / "link.txt").is_symlink()
        assert (tmp_path / "real" / "a.txt").read_text() == text
    assert len(list((tmp_path / "real").iterdir())) == 1


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="got a folder"):
        write_atomically(tmp_path, "new")


def test_existing_files_are_named_and_overwritten_only_by_force(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    refuse_to_overwrite(paths, force=False)
    for path in paths[:2]:
        path.touch()
    with pytest.raises(DataError, match="already exists") as caught:
        refuse_to_overwrite(paths, force=False)
    assert caught.value.where == f"{paths[0]}, {paths[1]}"
    refuse_to_overwrite(paths, force=True)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "last.pt") as partial:
        partial.write_text("whole")
        left = partial.name
    (tmp_path / left).write_text("half")
    others = [".hidden", "last.pt", ".last.1-2.pt", "notes.123-deadbeef.txt"]
    for name in others:
        (tmp_path / name).write_text("of the user")
    remove_partial_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)
