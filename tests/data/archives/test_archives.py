"""Images inside tar, parquet and arrow files: found, read in place, by several processes, and damage reported."""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from msrn.data.archives import parquet
from msrn.data.archives.members import images_in_archive, read_bytes
from msrn.data.archives.names import archive_and_member, find_archives, is_archive
from msrn.data.archives.tar import tar_members
from msrn.data.dataset import ImageDataset, evaluation_loader
from msrn.data.decode import open_image
from msrn.data.manifest import Manifest, Record
from msrn.data.transforms import Preprocessing, eval_transform
from msrn.errors import DataError, DependencyError
from msrn.labels.space import LabelSpace

COUNT = 12


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 255 - value)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def write_table(path: Path, columns: dict[str, object], **options: int) -> Path:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        opener = pa.ipc.new_file if "file" in path.name else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, opener(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
    return path


def images() -> list[dict[str, object]]:
    return [{"bytes": png(index), "path": f"{index}.png"} for index in range(COUNT)]


@pytest.fixture(params=["a.tar", "a.parquet", "stream.arrow", "file.arrow"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".tar":
        return write_tar(path, {f"d/{index}.png": png(index) for index in range(COUNT)})
    return write_table(path, {"image": images(), "n": range(COUNT)}, **_small(path))


def _small(path: Path) -> dict[str, int]:
    return {"row_group_size": 5} if path.suffix == ".parquet" else {}


def test_every_image_is_read_as_it_was_written(archive: Path) -> None:
    names = list(images_in_archive(archive))
    assert len(names) == COUNT
    assert [read_bytes(name) for name in names] == [png(index) for index in range(COUNT)]
    assert [read_bytes(name) for name in reversed(names)] == [png(index) for index in reversed(range(COUNT))]
    assert open_image(names[7]).getpixel((0, 0)) == (7, 0, 248)


def test_a_manifest_gives_the_bytes_of_files_and_of_members(archive: Path) -> None:
    names = [str(Path(name).relative_to(archive.parent)) for name in images_in_archive(archive)]
    (archive.parent / "plain.png").write_bytes(png(99))
    records = tuple(Record(image) for image in [*names, "plain.png"])
    data = Manifest(records, LabelSpace(["x"]), "train", archive.parent)
    assert data.image_bytes(3) == png(3)
    assert data.image_bytes(COUNT) == png(99)
    data.write(archive.parent / "m.jsonl")
    assert Manifest.read(archive.parent / "m.jsonl").image_bytes(4) == png(4)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_the_same_images(archive: Path, method: str) -> None:
    if method == "fork":
        list(images_in_archive(archive))  # the parent has its index already
    names = list(images_in_archive(archive))
    with multiprocessing.get_context(method).Pool(2) as pool:
        read = pool.map(read_bytes, names, chunksize=1)
    assert read == [png(index) for index in range(COUNT)]


def test_a_loader_with_workers_gives_the_images_in_order(archive: Path) -> None:
    names = [name.partition("::")[2] for name in images_in_archive(archive)]
    records = tuple(Record(f"{archive.name}::{name}") for name in names)
    data = Manifest(records, LabelSpace(["x"]), "train", archive.parent)
    plain = Preprocessing(size=4, mean=(0, 0, 0), std=(1, 1, 1))
    images = ImageDataset(data, eval_transform(plain), data.targets("positive"))
    seen = [
        float(red) for batch in evaluation_loader(images, batch_size=5, workers=2) for red in batch["image"][:, 0, 0, 0]
    ]
    np.testing.assert_allclose(seen, np.arange(COUNT) / 255, atol=1e-6)


def test_a_archive_that_is_written_again_is_read_anew(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", {"1.png": png(1)})
    assert read_bytes(f"{tar}::1.png") == png(1)
    write_tar(tar, {"0.png": b"longer than it was", "1.png": png(2)})
    assert read_bytes(f"{tar}::1.png") == png(2)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.tar::b/1.jpg", ("a.tar", "b/1.jpg")),
        ("x/A.TAR::1::2.jpg", ("x/A.TAR", "1::2.jpg")),
        ("a.tar::b.tar::c", ("a.tar", "b.tar::c")),
        ("d/t.parquet::image/3", ("d/t.parquet", "image/3")),
        ("a::b.jpg", None),
        ("a.tar", None),
        ("a.tar::", None),
        ("a.tar:b", None),
    ],
)
def test_a_name_of_a_member_has_both_parts(name: str, parts: tuple[str, str] | None) -> None:
    assert archive_and_member(name) == parts


def test_archives_are_known_by_their_suffix() -> None:
    assert [is_archive(name) for name in ("a.tar", "A.TAR", "b.parquet", "c.arrow", "c.tar.gz", "d.jpg")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip


ODD = ("./a b/ü.png", "x//y.png", "a/./z.png", "😀.png", "new\nline.png", "c::d.png", " blank .png", "q'\".png")


def test_odd_member_names_are_found_again_by_way_of_a_path(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", {name: png(index) for index, name in enumerate(ODD)})
    assert [read_bytes(Path(name)) for name in images_in_archive(tar)] == [png(index) for index in range(len(ODD))]


def test_the_system_s_own_tar_is_read(tmp_path: Path) -> None:
    (tmp_path / "in" / ("long" * 40)).mkdir(parents=True)
    (tmp_path / "in" / ("long" * 40) / "p.png").write_bytes(png(5))
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "in" / ("long" * 40) / "p.png")
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", tmp_path / "in", "."], check=True, timeout=60)
    (name,) = images_in_archive(tmp_path / "a.tar")  # the link is not followed
    assert read_bytes(name) == png(5)


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png"])
def test_members_that_climb_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="relative member name"):
        tar_members(write_tar(tmp_path / "a.tar", {name: b""}))


def damaged(kind: str, whole: bytes) -> bytes:
    second = whole.index(b"1.png")
    return {
        "cut in an image": whole[: second + 600],
        "cut in a header": whole[: second + 100],
        "header overwritten": whole[:second] + b"\xff" * 512 + whole[second + 512 :],
        "joined with cat": whole + whole,
        "empty": b"",
        "text": b"no tar at all" * 100,
    }[kind]


@pytest.mark.parametrize(
    "kind", ["cut in an image", "cut in a header", "header overwritten", "joined with cat", "empty", "text"]
)
def test_a_damaged_tar_file_is_refused_rather_than_read_in_part(tmp_path: Path, kind: str) -> None:
    whole = write_tar(tmp_path / "a.tar", {"0.png": png(0), "1.png": os.urandom(3000), "2.png": png(2)}).read_bytes()
    (tmp_path / "b.tar").write_bytes(damaged(kind, whole))
    with pytest.raises(DataError) as caught:
        tar_members(tmp_path / "b.tar")
    assert str(tmp_path / "b.tar") in caught.value.problems[0].where


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_file_is_reported_to_be_unpacked(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as tar:  # type: ignore[call-overload]
        tar.addfile(tarfile.TarInfo("x.png"))
    with pytest.raises(DataError, match="uncompressed") as caught:
        tar_members(tmp_path / "a.tar")
    assert "unpack it" in caught.value.hint


def test_a_member_named_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("x.png"))
        tar.addfile(tarfile.TarInfo("x.png"))
    with pytest.raises(DataError, match="occurs twice"):
        tar_members(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("a.tar::2.png", "no member '2.png'"),
        ("gone.tar::1.png", "cannot read the tar file"),
        ("a.parquet::image/12", "no row 12"),
        ("a.parquet::photo/1", "cannot be read"),
        ("a.parquet::n/1", "holds no image"),
        ("a.parquet::image", "a column and a row"),
        ("a.parquet::image/-1", "a column and a row"),
        ("gone.parquet::image/1", "gone.parquet"),
        ("file.arrow::image/12", "cannot be read"),
        ("file.arrow::photo/1", "cannot be read"),
        ("broken.parquet::image/1", "cannot read the parquet file"),
        ("broken.arrow::image/1", "cannot"),
    ],
)
def test_what_is_not_there_is_reported(tmp_path: Path, member: str, message: str) -> None:
    write_tar(tmp_path / "a.tar", {"1.png": png(1)})
    write_table(tmp_path / "a.parquet", {"image": images(), "n": range(COUNT)})
    write_table(tmp_path / "file.arrow", {"image": images()})
    for name in ("broken.parquet", "broken.arrow"):
        (tmp_path / name).write_bytes(b"ARROW1 and then nothing of use")
    with pytest.raises(DataError, match=message):
        read_bytes(tmp_path / member)
    with pytest.raises(DataError):
        open_image(tmp_path / member)


def test_an_image_that_is_only_named_is_reported(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {"image": [{"bytes": None, "path": "x.png"}, {"bytes": png(1), "path": None}]})
    with pytest.raises(DataError, match="only the path of one"):
        read_bytes(tmp_path / "a.parquet::image/0")
    assert read_bytes(tmp_path / "a.parquet::image/1") == png(1)


def test_too_large_members_and_row_groups_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "a.tar", {"1.png": png(1)})
    write_table(tmp_path / "a.parquet", {"image": images()})
    monkeypatch.setattr("msrn.data.archives.tar.MAX_MEMBER_BYTES", 10)
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 10)
    with pytest.raises(DataError, match="at most 10 bytes"):
        read_bytes(tmp_path / "a.tar::1.png")
    with pytest.raises(DataError, match="unpacks to"):
        read_bytes(tmp_path / "a.parquet::image/0")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DependencyError) as caught:
        read_bytes(tmp_path / "a.parquet::image/0")
    assert "msrn[data]" in caught.value.hint


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", ["train-0.tar", "train-1.tar"]),
        ("val", ["val.tar"]),
        ("test", ["test/a.tar", "test/b.tar"]),
        ("extra", ["data/extra-0.tar"]),
        ("train-{0..1}.tar", ["train-0.tar", "train-1.tar"]),
        ("train-{1,0}.tar", ["train-1.tar", "train-0.tar"]),
        ("t*-*.tar", ["train-0.tar", "train-1.tar"]),
        ("{train-0,val}.tar", ["train-0.tar", "val.tar"]),
        ("val.tar", ["val.tar"]),
    ],
)
def test_files_of_a_split_are_found(tmp_path: Path, split: str, expected: list[str]) -> None:
    for name in (
        "train-0.tar",
        "train-1.tar",
        "val.tar",
        "test/a.tar",
        "test/b.tar",
        "data/extra-0.tar",
        "training.tar",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_archives(tmp_path, split, (".tar",))
    assert [str(path.relative_to(tmp_path)) for path in found] == expected
    assert find_archives("", str(tmp_path / split), (".tar",)) == found


def test_numbers_in_braces_keep_their_zeros(tmp_path: Path) -> None:
    for number in range(8, 12):
        (tmp_path / f"{number:03}.tar").write_bytes(b"")
    found = find_archives(tmp_path, "{008..011}.tar", (".tar",))
    assert [path.stem for path in found] == ["008", "009", "010", "011"]


def test_files_that_braces_name_and_that_are_missing_are_all_reported(tmp_path: Path) -> None:
    (tmp_path / "1.tar").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        find_archives(tmp_path, "{0..3}.tar", (".tar",))
    assert [Path(problem.where).name for problem in caught.value.problems] == ["0.tar", "2.tar", "3.tar"]
    with pytest.raises(DataError, match="found none"):
        find_archives(tmp_path, "val", (".tar",))
