"""Arrays on disk survive an interruption at any byte, and other files are left alone."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from msrn.data.array_store import ROW, ArrayStore, key_of
from msrn.errors import DataError

ARRAYS = {key_of(f"{n}"): np.arange(n * 6, dtype=np.uint8).reshape(n, 2, 3) for n in range(1, 5)}


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    with ArrayStore(tmp_path / "store", np.uint8) as store:
        for key, array in ARRAYS.items():
            store.add(key, array)
    return tmp_path / "store"


def test_arrays_come_back_from_another_opening_and_another_process_form(filled: Path) -> None:
    for store in (ArrayStore(filled, np.uint8), pickle.loads(pickle.dumps(ArrayStore(filled, np.uint8)))):
        assert len(store) == 4
        assert all(np.array_equal(store[key], array) for key, array in ARRAYS.items())
        assert key_of("never added") not in store


def test_an_array_added_twice_is_kept_once(filled: Path) -> None:
    size = (filled / "data.bin").stat().st_size
    with ArrayStore(filled, np.uint8) as store:
        store.add(key_of("1"), np.zeros((9, 9, 9)))
    assert (filled / "data.bin").stat().st_size == size


@pytest.mark.parametrize("file", ["data.bin", "index.bin"])
def test_a_file_cut_at_any_byte_leaves_what_was_whole_and_can_be_written_on(
    filled: Path, tmp_path: Path, file: str
) -> None:
    whole = (filled / file).read_bytes()
    for length in range(0, len(whole) + 1, 5):
        cut = tmp_path / f"cut-{length}"
        shutil.copytree(filled, cut)
        (cut / file).write_bytes(whole[:length])
        with ArrayStore(cut, np.uint8) as store:
            for key in [key for key in ARRAYS if key in store]:
                assert np.array_equal(store[key], ARRAYS[key])
            for key, array in ARRAYS.items():
                store.add(key, array)
        mended = ArrayStore(cut, np.uint8)
        assert all(np.array_equal(mended[key], array) for key, array in ARRAYS.items())
        assert (cut / "index.bin").stat().st_size == 4 * ROW.itemsize


def test_two_writers_are_refused_and_readers_are_not(filled: Path) -> None:
    with ArrayStore(filled, np.uint8), pytest.raises(DataError, match="another process is filling"):
        ArrayStore(filled, np.uint8).__enter__()
    with ArrayStore(filled, np.uint8):
        assert np.array_equal(ArrayStore(filled, np.uint8)[key_of("2")], ARRAYS[key_of("2")])


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="found other files"):
        ArrayStore(tmp_path, np.uint8)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_store_of_another_dtype_is_refused(filled: Path) -> None:
    with pytest.raises(DataError, match="uint8"):
        ArrayStore(filled, np.float16)
    assert json.loads((filled / "store.json").read_text())["dtype"] == "uint8"


def test_keys_tell_parts_apart() -> None:
    assert len({key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of("c", "ab")}) == 4
