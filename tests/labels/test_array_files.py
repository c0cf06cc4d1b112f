"""Arrays of ``.npz`` files that anyone may have written: read, or refused with a ValueError."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from msrn.labels.array_files import MAX_ARRAY_BYTES, read_arrays, texts_of


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


def test_the_arrays_asked_for_are_those_of_numpy(tmp_path: Path) -> None:
    wanted = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.eye(3)), "c": np.array(["x", "été"])}
    np.savez(tmp_path / "v.npz", **wanted)
    found = read_arrays(tmp_path / "v.npz")
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert read_arrays(tmp_path / "v.npz", {"a", "lost"}).keys() == {"a"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2"), "EOF"),
        (npy("{'descr': '\\d', 'fortran_order': False, 'shape': (2,)}"), "descr"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x"), "objects"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8)), "shape"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (100000000,)}", bytes(8)), "unpack"),
        (npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}"), "unpack"),
        (b"no array", "magic"),
    ],
)
def test_a_damaged_or_hostile_member_is_a_value_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_arrays(npz(tmp_path / "v.npz", a=content))


def test_a_member_that_is_packed_in_an_unknown_way_is_a_value_error(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.savez(out, a=np.eye(2))
    content = bytearray(out.getvalue())
    content[8] = content[content.rindex(b"PK\1\2") + 10] = 77  # the method, in both places
    (tmp_path / "v.npz").write_bytes(content)
    with pytest.raises(ValueError, match="compression"):
        read_arrays(tmp_path / "v.npz")


def test_a_large_file_may_unpack_to_sixteen_times_its_size(tmp_path: Path) -> None:
    count = MAX_ARRAY_BYTES // 8 + 1
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({count},)}}"
    with pytest.raises(ValueError, match=f"more than the {MAX_ARRAY_BYTES:,}"):
        read_arrays(npz(tmp_path / "v.npz", a=npy(header)))


@pytest.mark.parametrize(
    "array", [np.eye(2), np.array([b"a"]), np.full((1,), 2**31 - 1, "<u4").view("<U1"), np.array([["a"]])]
)
def test_what_is_no_list_of_texts_is_a_value_error(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="strings"):
        texts_of(array)


def test_texts_come_back_in_either_byte_order() -> None:
    for order in ("<", ">"):
        assert texts_of(np.array(["sea", "été"], f"{order}U4")) == ("sea", "été")
