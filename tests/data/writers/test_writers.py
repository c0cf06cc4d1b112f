"""Writers: what is read back equals what was written, or nothing is written."""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from msrn import registry
from msrn.cli import main
from msrn.data.archives.names import find_archives
from msrn.data.manifest import Manifest, Record
from msrn.data.readers import coco, textfiles
from msrn.data.readers.table import read_table
from msrn.data.readers.webdataset import read_shards
from msrn.errors import DataError, MsrnError
from msrn.labels.space import LabelSpace


def write(data: Manifest, path: Path, name: str, *, force: bool = False, **options: Any) -> str:
    """Write with the writer of this name."""
    written: str = registry.load("writer", name)(
        registry.options_class("writer", name)(**options), data, path, force=force
    )
    return written


PLAIN = LabelSpace(["sofa", "cat", "dog"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.jpg", "b c.png", "d/ü.v2.jpg")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number * 80, 0, 0)).save(path)
    return tmp_path / "images"


def manifest(root: Path, *states: tuple[tuple[str, ...], ...], labels: LabelSpace = PLAIN) -> Manifest:
    names = ("a.jpg", "b c.png", "d/ü.v2.jpg")
    records = tuple(Record(name, *lists) for name, lists in zip(names, states, strict=False))
    return Manifest(records, labels, "train", root, "a test")


FULL = ((("cat", "dog"),), ((),), (("sofa",),))
UNSEEN = ((("cat",),), ((),), (("dog",),))
PARTLY = ((("cat",), (), ("dog",)), ((), (), PLAIN.names), (("sofa",),))
DIFFICULT = ((("cat",), ("sofa",)), ((),), ((), (), ("dog",)))


def read(path: Path, root: Path | None = None) -> Manifest:
    if path.is_dir():
        return read_shards(find_archives(path, "train", (".tar",)))
    if path.read_text(encoding="utf-8").startswith('{"msrn_manifest"'):
        return Manifest.read(path)
    return read_table(path, root=root)


def same(one: Manifest, other: Manifest) -> bool:
    turned = other.codes()[:, one.labels.align(other.labels)]
    return bool((one.codes() == turned).all()) and set(one.labels) == set(other.labels)


@pytest.mark.parametrize("states", [FULL, UNSEEN, PARTLY, DIFFICULT], ids=["full", "unseen", "partly", "difficult"])
@pytest.mark.parametrize(
    ("out", "form"),
    [("m.jsonl", "manifest"), ("t.csv", "table"), ("t.tsv", "table"), ("t.jsonl", "table"), ("shards", "webdataset")],
)
def test_labels_and_images_survive_or_the_format_is_refused(root: Path, states: object, out: str, form: str) -> None:
    data = manifest(root, *states)  # type: ignore[misc]
    path = root.parent / out
    if states is DIFFICULT and path.suffix in {".csv", ".tsv"}:
        with pytest.raises(DataError, match="no place for difficult objects"):
            write(data, path, form)
        assert [entry.name for entry in root.parent.iterdir()] == ["images"]
        return
    assert write(data, path, form).startswith(str(path))
    back = read(path)
    assert same(data, back)
    for index in range(3):
        assert back.image_bytes(index) == data.path(index).read_bytes()
    assert sorted(entry.name for entry in root.parent.iterdir()) == sorted(["images", out])  # nothing half written


def test_a_table_has_one_column_of_names_if_that_holds_everything(root: Path) -> None:
    write(manifest(root, *FULL), root / "t.csv", "table")
    assert (root / "t.csv").read_text().splitlines() == [
        "image,labels",
        "a.jpg,cat|dog",
        "b c.png,-",
        "d/ü.v2.jpg,sofa",
    ]
    write(manifest(root, *PARTLY), root / "u.csv", "table")
    assert (root / "u.csv").read_text().splitlines() == [
        "image,sofa,cat,dog",
        "a.jpg,0,1,",
        "b c.png,,,",
        "d/ü.v2.jpg,1,0,0",
    ]


@pytest.mark.parametrize(
    "names", [("a|b", "c"), ("-", "c"), ("nan", "c"), ("label", "tag"), ("a,b", 'c"d'), ("1", "0")]
)
def test_label_names_that_look_like_something_else_survive_or_are_refused(root: Path, names: tuple[str, str]) -> None:
    data = manifest(root, ((names[0],),), ((names[1],),), (names,), labels=LabelSpace(names))
    try:
        write(data, root / "t.csv", "table")
    except DataError:
        assert not (root / "t.csv").exists()
        assert names in {("label", "tag")}
    else:
        assert same(data, read_table(root / "t.csv"))


def test_coco_holds_images_categories_and_labels_and_refuses_what_it_cannot_hold(root: Path) -> None:
    write(manifest(root, *UNSEEN), root / "c.json", "coco")
    tree = json.loads((root / "c.json").read_text())
    names = {category["id"]: category["name"] for category in tree["categories"]}
    files = {image["id"]: image["file_name"] for image in tree["images"]}
    assert list(names.values()) == list(PLAIN)
    assert list(files.values()) == ["a.jpg", "b c.png", "d/ü.v2.jpg"]
    written = {(files[entry["image_id"]], names[entry["category_id"]]) for entry in tree["annotations"]}
    assert written == {("a.jpg", "cat"), ("d/ü.v2.jpg", "dog")}
    assert len({entry["id"] for entry in tree["annotations"]}) == 2
    with pytest.raises(DataError, match="no place for unknown labels"):
        write(manifest(root, *PARTLY), root / "d.json", "coco")
    with pytest.raises(DataError, match="no place for difficult objects"):
        write(manifest(root, (("cat",), ("dog",))), root / "d.json", "coco")
    assert not (root / "d.json").exists()


@pytest.mark.parametrize("place", ["beside the images", "elsewhere"])
def test_the_commands_write_coco_and_read_it_back_equal(root: Path, place: str) -> None:
    folder = root if place == "beside the images" else root.parent / "elsewhere"
    data = manifest(root, *UNSEEN)
    data.write(root.parent / "in.jsonl")
    there = ["data", "convert", str(root.parent / "in.jsonl"), str(folder / "c.json"), "--to=coco"]
    assert main(there) == 0
    choices = ["--data.reader=coco", "--data.reader.order=id", "--data.reader.empty=keep"]
    images = [] if folder == root else [f"--data.reader.images={root}"]
    assert main(["data", "convert", str(folder / "c.json"), str(root.parent / "out.jsonl"), *choices, *images]) == 0
    back = Manifest.read(root.parent / "out.jsonl")
    assert (back.records, back.labels) == (data.records, data.labels)
    assert back.path(0).samefile(data.path(0))


@pytest.mark.parametrize(("out", "form"), [("m.jsonl", "manifest"), ("t.csv", "table"), ("c.json", "coco")])
def test_nothing_is_overwritten_without_being_asked_to(root: Path, out: str, form: str) -> None:
    (root / out).write_text("precious")
    with pytest.raises(DataError, match="already exists") as caught:
        write(manifest(root, *FULL), root / out, form)
    assert "--force" in caught.value.hint
    assert (root / out).read_text() == "precious"
    write(manifest(root, *FULL), root / out, form, force=True)
    assert (root / out).read_text() != "precious"


def test_shards_of_several_splits_share_a_folder_and_none_is_overwritten(root: Path) -> None:
    data = manifest(root, *FULL)
    out = root.parent / "shards"
    write(data, out, "webdataset", shard_size=2)
    write(Manifest(data.records[:1], PLAIN, "val", root), out, "webdataset")
    names = sorted(path.name for path in out.iterdir())
    assert names == ["classnames.txt", "train-000000.tar", "train-000001.tar", "val-000000.tar"]
    with pytest.raises(DataError, match="already exists"):
        write(data, out, "webdataset")
    with pytest.raises(DataError, match="other labels"):
        write(Manifest((Record("a.jpg"),), LabelSpace(["x"]), "test", root), out, "webdataset")
    write(data, out, "webdataset", force=True)
    assert sorted(path.name for path in out.iterdir()) == ["classnames.txt", "train-000000.tar", "val-000000.tar"]
    assert read(out).labels == PLAIN  # in their order


def test_the_same_data_give_the_same_shards(root: Path) -> None:
    for name in ("one", "two"):
        write(manifest(root, *FULL), root.parent / name, "webdataset")
    one, two = ((root.parent / name / "train-000000.tar").read_bytes() for name in ("one", "two"))
    assert one == two
    with tarfile.open(root.parent / "one" / "train-000000.tar") as tar:
        assert tar.getnames()[4:] == ["00000002.jpg", "00000002.json"]  # no dot of the name d/ü.v2.jpg is left


def test_images_go_from_container_to_container(root: Path) -> None:
    first = root.parent / "first"
    write(manifest(root, *PARTLY), first, "webdataset")
    write(read(first), root.parent / "second", "webdataset")
    back = read(root.parent / "second")
    assert same(manifest(root, *PARTLY), back)
    assert back.image_bytes(1) == (root / "b c.png").read_bytes()


def test_an_image_without_a_suffix_gets_that_of_its_content_and_no_image_is_refused(root: Path) -> None:
    (root / "plain").write_bytes((root / "b c.png").read_bytes())
    data = Manifest((Record("plain", ("cat",)),), LabelSpace(["cat"]), "train", root)
    write(data, root / "s", "webdataset")
    assert read(root / "s").records[0].image.endswith("00000000.png")
    (root / "plain").write_text("no image")
    for name in ("plain", "gone.jpg"):
        with pytest.raises(DataError, match="cannot be read"):
            write(Manifest((Record(name),), LabelSpace(["cat"]), "train", root), root / "s2", "webdataset")
    assert not [path for path in root.iterdir() if path.name.endswith(("s2", ".part"))]


def test_tables_beside_the_images_need_no_root_and_others_name_theirs(root: Path) -> None:
    data = manifest(root, *FULL)
    write(data, root.parent / "t.csv", "table")
    assert read_table(root.parent / "t.csv").path(0) == root / "a.jpg"
    assert f"image paths start from {root}" in write(data, root.parent / "elsewhere" / "t.csv", "table")
    assert read_table(root.parent / "elsewhere" / "t.csv", root=root).path(2) == root / "d" / "ü.v2.jpg"


def test_absolute_paths_become_relative_ones(root: Path) -> None:
    records = tuple(Record(str(root / name), ("cat",)) for name in ("a.jpg", "b c.png"))
    write(Manifest(records, LabelSpace(["cat"]), "train", Path("/somewhere")), root / "t.csv", "table")
    assert [record.image for record in read_table(root / "t.csv").records] == ["a.jpg", "b c.png"]


def test_what_cannot_be_written_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msrn.data.writers.table.table_from_bytes", lambda *_, **__: manifest(root, *UNSEEN))
    monkeypatch.setattr("msrn.data.writers.webdataset.read_shards", lambda *_, **__: manifest(root, *UNSEEN))
    before = sorted(root.parent.rglob("*"))
    for out, form in (("t.csv", "table"), ("shards", "webdataset")):
        with pytest.raises(DataError, match="would be read differently"):
            write(manifest(root, *FULL), root.parent / out, form)
    assert sorted(root.parent.rglob("*")) == before


labels = st.text(min_size=1, max_size=8).filter(
    lambda name: name == name.strip() and not {"\n", "\r"} & set(name) and name.isprintable()
)
files = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def anything(draw: st.DrawFn) -> tuple[list[str], tuple[str, ...], list[list[int]]]:
    names = draw(st.lists(files.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=4, unique=True))
    space = draw(st.lists(labels, min_size=1, max_size=4, unique=True))
    codes = [draw(st.lists(st.sampled_from([0, 1, -1]), min_size=len(space), max_size=len(space))) for _ in names]
    return [f"{name}.jpg" for name in names], tuple(space), codes


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything())
def test_any_names_survive_every_format_or_are_refused(
    drawn: tuple[list[str], tuple[str, ...], list[list[int]]],
) -> None:
    images, names, codes = drawn
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "p"
        root.mkdir()
        for number, image in enumerate(images):
            (root / image).write_bytes(b"%d" % number)
        records = tuple(
            Record(
                image,
                tuple(name for name, code in zip(names, row, strict=True) if code == 1),
                (),
                tuple(name for name, code in zip(names, row, strict=True) if code == -1),
            )
            for image, row in zip(images, codes, strict=True)
        )
        data = Manifest(records, LabelSpace(names), "train", root, "")
        shards = root.parent / "s"
        write(data, shards, "webdataset")
        write(data, root.parent / "m.jsonl", "manifest")
        backs = [read(shards), read(root.parent / "m.jsonl")]
        for form in ("t.csv", "t.tsv", "t.jsonl"):
            try:
                write(data, root / form, "table")
                backs.append(read_table(root / form))
            except MsrnError:
                assert not (root / form).exists()
        if not any(-1 in row for row in codes):
            write(data, root / "c.json", "coco")
            backs.append(coco.read(coco.Options(empty="keep", order="id"), "", str(root / "c.json"), None))
            assert backs[-1].labels == data.labels
        for back in backs:
            assert same(data, back)
            assert [back.image_bytes(index) for index in range(len(back))] == [
                b"%d" % number for number in range(len(images))
            ]


@settings(max_examples=60, deadline=None)
@given(st.lists(files, min_size=1, max_size=3, unique=True), st.lists(labels, min_size=1, max_size=3, unique=True))
def test_any_names_of_text_files_are_read_as_they_are(stems: list[str], tags: list[str]) -> None:
    tags = [tag for tag in tags if "," not in tag and tag != "-"]
    stems = [stem for stem in stems if not stem.startswith(".")]
    if not tags or not stems:
        return
    with tempfile.TemporaryDirectory() as folder:
        for stem in stems:
            (Path(folder) / f"{stem}.jpg").write_bytes(b"")
            (Path(folder) / f"{stem}.txt").write_text("\ufeff" + ", ".join(tags), encoding="utf-8", newline="")
        data = textfiles.read(textfiles.Options(), "", folder, None)
        assert sorted(record.image for record in data.records) == sorted(f"{stem}.jpg" for stem in stems)
        assert all(record.positives == tuple(tags) for record in data.records)
