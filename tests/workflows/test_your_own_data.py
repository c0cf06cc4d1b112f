"""The guide "Your own data": its first section, command by command, on drawn scenes; then every other reader."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from msrn.cli import main
from msrn.data.manifest import Manifest
from msrn.data.readers.table import read_table
from msrn.data.writers import webdataset

Capture = pytest.CaptureFixture[str]
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "your-own-data.md"


@pytest.fixture
def mine(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the guide starts from: ``photos``, ``labels.csv`` and ``by_label``."""
    shutil.copytree(scenes / "images" / "train", tmp_path / "photos")
    rows = read_table(scenes / "train.csv").records
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        lines = [(f"photos/{Path(row.image).name}", "|".join(row.positives) or "-") for row in rows]
        csv.writer(file).writerows([("image", "labels"), *lines])
    for row in rows:
        if row.positives:
            folder = tmp_path / "by_label" / row.positives[0]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(scenes / row.image, folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def first_section() -> list[list[str]]:
    section = GUIDE.read_text(encoding="utf-8").split("\n## ")[1]
    assert section.startswith("In five minutes")
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for line in "".join(blocks).splitlines()]


def test_the_guide_s_first_section_leads_from_a_folder_and_a_table_to_predictions(capsys: Capture, mine: Path) -> None:
    commands = first_section()
    assert [words[0] for words in commands] == ["data", "data", "labels", "train", "evaluate", "predict", "data"]
    for words in commands:
        words = [word.replace("custom", "tiny") for word in words]
        target = words[words.index(">") + 1] if ">" in words else None
        assert main(words[: words.index(">")] if target else words) == 0, words
        out = capsys.readouterr().out
        if target:
            (mine / target).write_text(out)
    assert (mine / "runs" / "mine" / "bundle" / "model.safetensors").is_file()
    with (mine / "tags.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 48
    parts = [Manifest.read(mine / "lists" / f"{name}.jsonl") for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [34, 7, 7]
    assert len({record.image for part in parts for record in part.records}) == 48
    for path in (mine / "lists2").iterdir():
        part = Manifest.read(path)
        assert all(part.path(index).is_file() for index in range(len(part)))


@pytest.mark.parametrize("reader", ["webdataset", "parquet", "textfiles", "folders"])
def test_every_other_reader_serves_training_in_worker_processes_and_evaluation(
    capsys: Capture, mine: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_table(mine / "labels.csv")
    source = {"webdataset": "shards/*.tar", "parquet": "t.parquet", "textfiles": "photos", "folders": "by_label"}[
        reader
    ]
    if reader == "webdataset":
        webdataset.write(webdataset.Options(shard_size=20), data, mine / "shards", force=False)
    elif reader == "parquet":
        pa = pytest.importorskip("pyarrow")
        images = [{"bytes": data.path(index).read_bytes(), "path": None} for index in range(len(data))]
        table = pa.table({"image": images, "labels": [list(record.positives) for record in data.records]})
        pytest.importorskip("pyarrow.parquet").write_table(table, "t.parquet", row_group_size=10)
    elif reader == "textfiles":
        for index, record in enumerate(data.records):
            data.path(index).with_suffix(".txt").write_text(", ".join(record.positives) or "-")
    flags = ["--preset=tiny", f"--data.reader={reader}", f"--data.train={source}", "--data.workers=2"]
    assert main(["train", *flags, "--optim.epochs=1", "--run.folder=run"]) == 0
    assert main(["evaluate", "run", "--split=train"]) == 0
    capsys.readouterr()
    if reader in {"webdataset", "parquet"}:
        named = sorted(str(path) for path in Path().glob(source))
        assert main(["predict", "run", *named, "--format=json"]) == 0
        inside = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert main(["predict", "run", "photos", "--format=json"]) == 0
        plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["probabilities"] for row in inside] == [row["probabilities"] for row in plain]
        assert all(row["image"].startswith(tuple(f"{name}::" for name in named)) for row in inside)


def test_prediction_reports_a_damaged_shard_and_a_missing_one(capsys: Capture, tiny_run: Path, tmp_path: Path) -> None:
    from msrn.errors import DataError
    from msrn.inference.predictor import Predictor

    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    assert main(["predict", str(tiny_run), str(tmp_path / "bad.tar")]) == 2
    assert "expected an uncompressed tar file" in capsys.readouterr().err
    assert main(["predict", str(tiny_run), str(tmp_path / "gone.tar")]) == 1
    assert "found no file" in capsys.readouterr().out
    with pytest.raises(DataError, match="expected one image, got a file of many"):
        Predictor.load(tiny_run)(tmp_path / "bad.tar")
