"""Situations that show only in whole commands: what check, fix, train and predict say of the same files."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msrn.cli import main

Images = Callable[..., Path]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Run:
    """Run a command in a folder: its exit code, and all that it printed and logged."""

    def command(folder: Path, *arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(folder)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            code = main(list(arguments))
        done = capsys.readouterr()
        return code, " ".join((done.out + done.err + caplog.text).split())

    return command


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (36, 48, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **options)
    return out.getvalue()


def table(folder: Path, *names: str) -> None:
    rows = [f"{name},{'sea' if number % 2 else 'boat'}\n" for number, name in enumerate(names)]
    (folder / "labels.csv").write_text("image,labels\n" + "".join(rows))


def test_check_and_predict_say_what_to_do_with_a_file_that_is_no_image(
    tmp_path: Path, run: Run, tiny_run: Path
) -> None:
    foreign = {"a.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "b.jpg": b"version https://git-lfs.github.com/spec/v1\n"}
    for name, content in {**foreign, "c.png": encoded("PNG")}.items():
        (tmp_path / name).write_bytes(content)
    table(tmp_path, "a.jpg", "b.jpg", "c.png")
    for arguments in (("data", "check", "labels.csv", "--near", "-1"), ("predict", str(tiny_run), "a.jpg", "b.jpg")):
        code, text = run(tmp_path, *arguments)
        assert code == 1
        assert "convert it to JPEG, for example with heif-convert or pillow-heif" in text
        assert "run git lfs pull" in text


def test_cut_images_are_named_and_left_out_by_a_fix_that_trains(
    images: Images, run: Run, tmp_path: Path, tiny_run: Path
) -> None:
    whole = [f"ok{number}.jpg" for number in range(4)]
    folder = images(*whole, "cut.jpg", "end.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-60])
    (folder / "end.jpg").write_bytes((folder / "end.jpg").read_bytes()[:-2])  # only the end mark is missing
    table(folder, *whole, "cut.jpg", "end.jpg")
    settings = ("--preset", "tiny", "--data.val", "none", "--data.batch_size", "2", "--optim.epochs", "1")
    code, text = run(folder, "train", *settings, "--data.train", "labels.csv", "--run.folder", "runs/a")
    assert code == 2
    assert "cut.jpg" in text
    assert "msrn data check finds all such files" in text
    code, text = run(folder, "data", "check", "labels.csv", "--near", "-1", "--fix", "fixed")
    assert code == 1
    assert "labels: 1 left out: the file cannot be read" in text
    fixed = [json.loads(line) for line in (folder / "fixed/labels.jsonl").read_text().splitlines()[1:]]
    assert [row["image"] for row in fixed] == [*whole, "end.jpg"]
    source = ("--data.reader", "manifest", "--data.train", "fixed/labels.jsonl")
    assert run(folder, "train", *settings, *source, "--run.folder", "runs/b")[0] == 0


def test_folders_with_rarer_suffixes_are_read_by_every_command(images: Images, run: Run, tiny_run: Path) -> None:
    names = ("d/boat/a.jpg", "d/sea/b.png", "d/sea/c.webp")
    folder = images(*names)
    for old, new in (("d/boat/a.jpg", "d/boat/a.jfif"), ("d/sea/b.png", "d/sea/b.apng")):
        (folder / old).rename(folder / new)
    (folder / "d/sea/d.heic").write_bytes(b"x")
    code, text = run(folder, "data", "check", "d", "--data.reader", "folders", "--near", "-1")
    assert code == 0
    assert "passed over (not images by suffix): 1 .heic" in text
    assert "3 images" in text
    code, text = run(folder, "predict", str(tiny_run), "d", "--format", "csv")
    assert code == 0
    assert all(name in text for name in ("a.jfif", "b.apng", "c.webp", "1 .heic"))


@pytest.mark.parametrize("source", ["empty", "photos/*.jpg"])
def test_a_folder_without_images_and_a_pattern_without_files_are_no_success(
    tmp_path: Path, run: Run, tiny_run: Path, source: str
) -> None:
    (tmp_path / "empty").mkdir()
    code, text = run(tmp_path, "predict", str(tiny_run), source)
    assert code != 0
    assert source in text


def test_modes_of_pixels_are_read_alike_by_check_and_predict(tmp_path: Path, run: Run, tiny_run: Path) -> None:
    kinds = {
        "cmyk.jpg": encoded("JPEG", "CMYK"),
        "la.png": encoded("PNG", "LA"),
        "bit.png": encoded("PNG", "1"),
        "pal.png": encoded("PNG", "P"),
        "lab.tif": encoded("TIFF", "LAB"),
        "anim.gif": encoded("GIF", "RGB", save_all=True, append_images=[Image.new("RGB", (48, 36))]),
        "float.tif": encoded("TIFF", "F"),
    }
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
    table(tmp_path, *kinds)
    code, text = run(tmp_path, "data", "check", "labels.csv", "--near", "-1", "--json")
    unreadable = [
        each
        for each in json.JSONDecoder().raw_decode(text[text.index("{") :])[0]["issues"]
        if each["code"] == "unreadable"
    ]
    assert [each["images"][0]["image"] for each in unreadable] == ["float.tif"]
    code, text = run(tmp_path, "predict", str(tiny_run), *kinds, "--format", "csv")
    assert code == 1
    assert text.count("range of values is unknown") == 1


def test_extreme_shapes_are_trained_on_and_predicted(tmp_path: Path, run: Run) -> None:
    for name, size in {"wide.png": (9000, 3), "tall.png": (1, 5000), "one.png": (1, 1)}.items():
        Image.new("RGB", size, (9, 99, 200)).save(tmp_path / name)
    (tmp_path / "plain.png").write_bytes(encoded("PNG"))
    table(tmp_path, "wide.png", "tall.png", "one.png", "plain.png")
    settings = ("--preset", "tiny", "--data.augment", "published", "--data.val", "none", "--data.batch_size", "2")
    more = ("--optim.epochs", "1", "--data.train", "labels.csv", "--run.folder", "run")
    assert run(tmp_path, "train", *settings, *more)[0] == 0
    code, text = run(tmp_path, "predict", "run", "wide.png", "tall.png", "one.png")
    assert (code, "!" in text) == (0, False)


def test_an_imagefolder_and_coco_without_a_category_are_told(images: Images, run: Run) -> None:
    folder = images("flat/p0.jpg", "train/cats/c.jpg", "train/dogs/d.jpg", "p0.jpg")
    assert run(folder, "data", "check", "train", "--data.reader", "folders", "--near", "-1")[0] == 0
    (folder / "flat/metadata.jsonl").write_text('{"file_name": "p0.jpg", "labels": [0, 2]}\n')
    code, text = run(folder, "data", "check", "flat/metadata.jsonl")
    assert code == 2
    assert "class numbers say nothing without their names" in text
    tree = {"images": [{"id": 1, "file_name": "p0.jpg"}], "categories": [{"id": 1, "name": "sea"}]}
    annotations = [{"image_id": 1, "category_id": 1}, {"id": 2, "image_id": 1, "category_id": None}]
    (folder / "c.json").write_text(json.dumps({**tree, "annotations": annotations}))
    code, text = run(folder, "data", "check", "c.json")
    assert code == 2
    assert 'expected an image_id and a category_id, got {"id": 2, "image_id": 1, "category_id": null}' in text
    assert "annotations[1]" in text


def test_a_column_without_any_value_is_named(images: Images, run: Run) -> None:
    folder = images("p0.jpg", "p1.jpg")
    (folder / "t.csv").write_text("image,sea,boat,notes\np0.jpg,1,0,\np1.jpg,0,1,\n")
    assert "unknown in every row: notes" in run(folder, "data", "check", "t.csv", "--near", "-1")[1]
