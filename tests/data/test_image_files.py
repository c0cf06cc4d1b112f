"""Image files of a folder: the suffixes that the decoder opens, hidden names, links and loops."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from PIL import Image

from msrn.data.archives.members import images_in_archive
from msrn.data.decode import open_image, supported_formats
from msrn.data.image_files import IMAGE_FORMATS, IMAGE_SUFFIXES, image_files, is_image_name
from msrn.data.readers import folders, textfiles
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

LABELS = LabelSpace(["sea"])


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, "PNG")
    return path


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in image_files(folder)]


def test_the_suffixes_are_those_that_pillow_gives_to_the_formats_that_are_decoded() -> None:
    Image.init()
    registered = {suffix for suffix, name in Image.registered_extensions().items() if name in IMAGE_FORMATS}
    # .mpo holds JPEG; .pfm holds floats without a known range, which open_image refuses.
    assert set(IMAGE_SUFFIXES) == registered - {".pfm"} | {".mpo"}
    assert len(set(IMAGE_SUFFIXES)) == len(IMAGE_SUFFIXES)


@pytest.mark.parametrize("name", sorted(IMAGE_FORMATS))
def test_a_file_of_every_suffix_is_listed_and_decoded(tmp_path: Path, name: str) -> None:
    if name not in supported_formats() or name not in Image.SAVE:
        pytest.skip(f"this build of Pillow has no {name}")
    for suffix in IMAGE_FORMATS[name]:
        Image.new("RGB", (4, 4)).save(tmp_path / f"a{suffix}", name)
        Image.new("RGB", (4, 4)).save(tmp_path / f"b{suffix.upper()}", name)
    found = list(image_files(tmp_path))
    assert len(found) == 2 * len(IMAGE_FORMATS[name])
    assert all(open_image(path).size == (4, 4) for path in found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True),
        ("d/a.JFIF", True),
        ("a.heic", False),
        ("jpg", False),
        ("._a.jpg", False),
        (".jpg", False),
        ("__MACOSX/a.jpg", False),
        (".ipynb_checkpoints/a.jpg", False),
        ("d/__MACOSX/a.jpg", False),
    ],
)
def test_names_of_images_are_visible_and_have_a_suffix(name: str, expected: bool) -> None:
    assert is_image_name(name) is expected


def test_hidden_files_and_folders_are_skipped_by_every_way_into_a_folder(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "cat/._1.jpg", "cat/.ipynb_checkpoints/1.jpg", "__MACOSX/cat/1.jpg", ".git/1.jpg"):
        image(tmp_path / "data" / name)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "data", arcname=".")
    assert names(tmp_path / "data") == ["cat/1.jpg"]
    assert list(images_in_archive(tmp_path / "a.tar")) == [f"{tmp_path}/a.tar::./cat/1.jpg"]
    by_folder = folders.read(folders.Options(), "", str(tmp_path / "data"), None)
    assert [record.image for record in by_folder.records] == ["cat/1.jpg"]
    (tmp_path / "data" / "cat" / "1.txt").write_text("cat")
    with_text = textfiles.read(textfiles.Options(), "", str(tmp_path / "data"), None)
    assert [record.image for record in with_text.records] == ["cat/1.jpg"]


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    image(tmp_path / "disk" / "2021" / "a.jpg")
    image(tmp_path / "disk" / "2022" / "b.jpg")
    (tmp_path / "disk" / "2021" / "a.txt").write_text("sea")
    root = tmp_path / "all"
    root.mkdir()
    (root / "2021").symlink_to("../disk/2021")
    (root / "2022").symlink_to("../disk/2022")
    (root / "again").symlink_to("../disk/2022")
    (root / "loop").symlink_to(".")
    (tmp_path / "disk" / "2022" / "back").symlink_to(root)
    (tmp_path / "tags").symlink_to("all")
    assert names(root) == ["2021/a.jpg", "2022/b.jpg"]
    assert names(tmp_path / "tags") == ["2021/a.jpg", "2022/b.jpg"]
    data = textfiles.read(textfiles.Options(), "", str(tmp_path / "tags"), None)
    assert [(record.image, record.positives) for record in data.records] == [
        ("2021/a.jpg", ("sea",)),
        ("2022/b.jpg", ()),
    ]
    (tmp_path / "by_label").mkdir()
    for label, year in (("sea", "2021"), ("boat", "2022")):
        (tmp_path / "by_label" / label).symlink_to(f"../disk/{year}")
    (tmp_path / "disk" / "2022" / "back").unlink()
    labelled = folders.read(folders.Options(), "", str(tmp_path / "by_label"), None)
    assert [record.image for record in labelled.records] == ["boat/b.jpg", "sea/a.jpg"]


def test_a_link_that_leads_nowhere_is_listed_so_that_it_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("gone.jpg")
    (path,) = image_files(tmp_path)
    with pytest.raises(DataError, match="found no file"):
        open_image(path)


def test_other_files_are_counted_by_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image(tmp_path / "sea" / "a.jpg")
    for name in ("b.heic", "c.HEIC", "d.jxl", "plain"):
        (tmp_path / "sea" / name).write_bytes(b"")
    counts = "passed over (not images by suffix): 2 .heic, 1 .jxl, 1 without suffix"
    with caplog.at_level("INFO"):
        assert names(tmp_path) == ["sea/a.jpg"]
        assert counts in folders.read(folders.Options(), "", str(tmp_path), None).source
        assert counts in textfiles.read(textfiles.Options(), "", str(tmp_path / "sea"), LABELS).source
    assert [message.endswith(counts) for message in caplog.messages] == [True, True, True]


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: object) -> object:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(DataError, match="cannot list the folder: Permission denied"):
        list(image_files(tmp_path))
