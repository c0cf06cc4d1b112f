"""The commands of ``msrn data``: what they print and write, and what they refuse."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from msrn.cli import main
from msrn.cli.data_sources import reader_of
from msrn.data.manifest import Manifest
from msrn.data.readers.table import read_table

Capture = pytest.CaptureFixture[str]
Wrong = Callable[..., str]


@pytest.mark.parametrize(
    ("name", "text", "reader"),
    [
        ("a.csv", "", "table"),
        ("a.TSV", "", "table"),
        ("a.jsonl", '{"msrn_manifest": 1}', "manifest"),
        ("a.jsonl", '{"image": "x"}', "table"),
        ("a.tar", "", "webdataset"),
        ("train-{0..9}.tar", None, "webdataset"),
        ("a.parquet", "", "parquet"),
        ("gone.jsonl", None, "table"),
        ("folder", None, None),
    ],
)
def test_the_suffix_shows_the_reader_or_does_not(
    tmp_path: Path, name: str, text: str | None, reader: str | None
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert reader_of(str(tmp_path / name)) == reader


def test_a_data_set_goes_through_all_formats_and_back(capsys: Capture, scenes: Path, tmp_path: Path) -> None:
    first = str(scenes / "val.csv")
    assert main(["data", "convert", first, str(tmp_path / "m.jsonl")]) == 0
    assert "13 images, " in capsys.readouterr().out
    assert main(["data", "convert", str(tmp_path / "m.jsonl"), str(tmp_path / "shards")]) == 0
    assert main(["data", "convert", str(tmp_path / "shards" / "*.tar"), str(tmp_path / "t.csv")]) == 0
    assert main(["data", "convert", str(tmp_path / "t.csv"), str(tmp_path / "n.jsonl")]) == 0
    one, other = Manifest.read(tmp_path / "m.jsonl"), Manifest.read(tmp_path / "n.jsonl")
    assert [record.positives for record in one.records] == [record.positives for record in other.records]
    assert other.image_bytes(5) == one.path(5).read_bytes()


def test_a_split_is_written_as_manifests_and_printed(
    wrong: Wrong, capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    with (tmp_path / "groups.csv").open("w", newline="") as file:
        rows = [(f"images/train/{number:06}.jpg", number // 4) for number in range(48)]
        csv.writer(file).writerows([("image", "film"), *rows])
    arguments = ["data", "split", str(scenes / "train.csv"), str(tmp_path / "lists"), "--parts=a=0.5,b=0.25,c=0.25"]
    assert main([*arguments, "--split_groups", str(tmp_path / "groups.csv"), "--group_column=film", "--seed=3"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if "images  " in line] == ["a", "b", "c"]
    assert str(tmp_path / "lists" / "a.jsonl") in err
    films: dict[int, set[str]] = {}
    for name in "abc":
        part = Manifest.read(tmp_path / "lists" / f"{name}.jsonl")
        assert all(part.path(index).is_file() for index in range(len(part)))
        assert (part.split, "12 split groups" in part.source) == (name, True)
        for record in part.records:
            films.setdefault(int(Path(record.image).stem) // 4, set()).add(name)
    assert len(films) == 12
    assert all(len(parts) == 1 for parts in films.values())
    assert "already exists" in wrong(*arguments)
    assert main([*arguments, "--force"]) == 0


def test_split_groups_are_found_in_file_names(scenes: Path, tmp_path: Path) -> None:
    arguments = ["data", "split", str(scenes / "train.csv"), str(tmp_path / "lists")]
    assert main([*arguments, r"--group_pattern=(\d{5})\d\.jpg"]) == 0
    parts = [Manifest.read(tmp_path / "lists" / f"{name}.jsonl").records for name in ("train", "val")]
    tens = [{int(Path(record.image).stem) // 10 for record in part} for part in parts]
    assert not tens[0] & tens[1]


def test_a_reader_and_its_folder_name_a_data_set_with_the_splits_of_the_settings(
    wrong: Wrong, capsys: Capture, scenes: Path
) -> None:
    given = ["data", "check", "--data.reader", "table", "--data.root", str(scenes)]
    assert main([*given, "--json"]) in (0, 1)
    alone = json.loads(capsys.readouterr().out)
    assert main([*given, "--data.test", "test", "--json"]) in (0, 1)
    both = json.loads(capsys.readouterr().out)
    assert [split["name"] for split in alone["splits"]] == ["train"]
    assert [split["name"] for split in both["splits"]] == ["train", "test"]
    assert "--data.reader and --data.root" in wrong("data", "check")


def test_a_good_data_set_is_checked_with_exit_code_0_and_leakage_with_1(
    capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    settings = ["--data.reader=table", f"--data.root={scenes}", "--data.train=train", "--data.test=test"]
    assert main(["data", "check", *settings, "--near=-1"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("60 images (train 48, test 12), ")
    lists = [str(tmp_path / f"{name}.jsonl") for name in ("test", "train")]
    whole = read_table(scenes / "train.csv")
    replace(whole.first(5), split="test").write(lists[0])
    whole.write(lists[1])
    assert main(["data", "check", *lists, "--examples=1"]) == 1
    out, _ = capsys.readouterr()
    assert re.search(r"error +leak +5 +train/test leakage", out)
    assert main(["data", "check", *lists, "gone.csv", "--json", "--workers=1"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["code"] for each in found["issues"]][:2] == ["source", "leak"]
    fix = [f"--fix={tmp_path / 'fixed'}"]
    assert main(["data", "check", *lists, *fix]) == 1
    assert "train: 5 left out" in capsys.readouterr().err
    assert len(Manifest.read(tmp_path / "fixed" / "train.jsonl")) == 43
    assert main(["data", "check", *(str(tmp_path / "fixed" / f"{name}.jsonl") for name in ("train", "test"))]) == 0
    assert main(["data", "check", *lists, *fix]) == 2
    assert "--force" in capsys.readouterr().err


def test_near_duplicates_are_kept_together_by_a_split(scenes: Path, tmp_path: Path) -> None:
    labels = read_table(scenes / "train.csv")
    rows = []
    for number in range(12):
        with Image.open(labels.path(number)) as image:
            for name, copy in (("a", image), ("b", image.resize((50, 50))), ("c", image)):
                copy.save(tmp_path / f"{number}{name}.png")
                rows.append((f"{number}{name}.png", "|".join(labels.records[number].positives)))
    with (tmp_path / "all.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "labels"), *rows])
    groups = str(tmp_path / "near.jsonl")
    assert main(["data", "check", str(tmp_path / "all.csv"), "--split_groups", groups]) == 0
    arguments = ["data", "split", str(tmp_path / "all.csv"), str(tmp_path / "lists"), "--parts=a=0.5,b=0.5"]
    assert main([*arguments, "--split_groups", groups]) == 0
    parts = [Manifest.read(tmp_path / "lists" / f"{name}.jsonl").records for name in "ab"]
    numbers = [{record.image[:-5] for record in part} for part in parts]
    assert not numbers[0] & numbers[1]
    assert [len(part) for part in parts] == [18, 18]


def test_a_page_is_written_once(wrong: Wrong, capsys: Capture, scenes: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "scenes.html"
    arguments = ["data", "show", str(scenes / "val.csv"), str(scenes / "train.csv"), f"--out={page}", "--title=A & B"]
    assert main([*arguments, "--samples=1"]) == 0
    assert re.search(r"scenes\.html: 0\.\d MB", capsys.readouterr().out)
    assert "<h1>A &amp; B</h1>" in page.read_text(encoding="utf-8")
    assert "--force" in wrong(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["split", "{s}/train.csv", "out", "--parts=a=0.5,b=0.6"], "sum to 1, got a=0.5, b=0.6"),
        (["split", "{s}/train.csv", "out", "--parts=a=0.5,a=0.5"], "different names"),
        (["split", "{s}/train.csv", "out", "--parts=../a=0.5,b=0.5"], "different names"),
        (["split", "{s}/train.csv", "out", "--parts=a=x,b=0.5"], "a number after a="),
        (["split", "{s}/train.csv", "out", "--split_groups", "gone.csv"], "gone.csv"),
        (["split", "{s}/train.csv", "out", "--group_pattern=("], "regular expression"),
        (["split", "{s}", "out"], "pass --data.reader NAME, or --preset"),
        (["split", "{s}/images", "out", "--data.reader=folders", "--data.labels=gone.txt"], "gone.txt"),
        (["split", "gone.csv", "out"], "gone.csv"),
        (["split", "gone-*.tar", "out"], "found none"),
        (["convert", "{s}/train.csv", "{s}/val.csv"], "--force"),
        (["convert", "{s}/train.csv", "out.x", "--to=xml"], "coco or webdataset, got 'xml'"),
        (["convert", "{s}/train.csv", "out", "--shard_size=0"], "at least 1"),
        (["convert", "{s}/train.csv"], "required: out"),
        (["convert", "{s}/train.csv", "out.csv", "--shard_size=9"], "the writer table has no shard_size"),
        (["check"], "name its splits"),
        (["check", "gone.csv", "lost.csv"], "gone.csv"),
        (["check", "{s}/train.csv", "--near=16"], "-1 to 15"),
        (["check", "{s}/train.csv", "--split_groups={s}/val.csv"], "--force"),
        (["check", "{s}/train.csv", "gone.csv", "--fix=out"], "gone.csv"),
        (["show", "{s}/train.csv", "--out={s}/val.csv"], "--force"),
        (["show", "{s}/train.csv"], "out"),
        (["show", "{s}/train.csv", "--out=a.html", "--samples=101"], "0 to 100"),
        (["show", "{s}/train.csv", "--out=a.html", "--threshold=0"], "above 0"),
    ],
)
def test_mistakes_are_explained_with_what_to_do(
    wrong: Wrong, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in wrong(
        "data", *(argument.format(s=scenes) if "{s}" in argument else argument for argument in arguments)
    )
    assert not list(tmp_path.iterdir())
