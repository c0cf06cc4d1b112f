"""Let every command meet a full and a read-only disk at each of its writes: ``disk_faults.py FOLDER each|all``.

Prints a JSON line for each fault: command, fault, the change it was injected at, exit code, messages, the files that
differ from those before, and for a training how the resumed run differs from an uninterrupted one. ``each`` injects
once for every kind of change of a command, ``all`` at every single change.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from injected import Act, at, child, full, on_change, read_only, warm
from runs import result

from msrn.cli import main
from msrn.demo.scenes import write_scenes
from msrn.engine import evaluate, label_summary, trainer  # noqa: F401 - imported once, before every fork
from msrn.inference import predictor  # noqa: F401
from msrn.report import data_set  # noqa: F401
from msrn.visualize import figures, label_graph  # noqa: F401

FAULTS = {"full": full, "read-only": read_only}


def commands(scenes: Path, run: Path) -> dict[str, list[str]]:
    """Command lines that write, to be run in an empty folder and again over what they wrote."""
    table = ["--data.reader=table", f"--data.root={scenes}", f"--data.labels={scenes / 'labels.txt'}"]
    data = [*table, "--data.train=train", "--data.val=val"]
    train = ["train", "--preset=tiny", *data, "--data.batch_size=16", "--run.device=cpu", "--run.folder=run"]
    rows = [str(scenes / "train.csv"), *table]
    return {
        "train": [*train, "--run.checkpoint_minutes=0", "--optim.ema=0.9", "--optim.accumulate=2"],
        "image cache": [*train, "--optim.epochs=1", "--data.cache=cache"],
        "feature cache": [*train, "--optim.epochs=1", "--data.feature_cache=features", "--model.freeze=-1"],
        "evaluate": ["evaluate", str(run), "--split=val", "--out=new/figures.json", "--force"],
        "table": ["data", "convert", *rows, "new/out.csv", "--force"],
        "coco": ["data", "convert", *rows, "new/out.json", "--force"],
        "manifest": ["data", "convert", *rows, "new/out.jsonl", "--force"],
        "webdataset": ["data", "convert", *rows, "new/out", "--shard_size=20", "--force"],
        "fix": ["data", "check", *rows, "--near=-1", "--workers=1", "--fix=new/out", "--force"],
        "split groups": ["data", "check", *rows, "--near=-1", "--workers=1", "--split_groups=new/out.jsonl", "--force"],
        "split": ["data", "split", *rows, "new/parts", "--force"],
        "show": ["data", "show", *rows, "--samples=1", "--out=new/page.html", "--force"],
        "labels": ["labels", *data, "--labels.embeddings=random", "--edges=new/e.csv", "--draw=new/g.png", "--force"],
        **{
            f"predict {style}": ["predict", str(run), str(scenes / "images" / "test"), f"--format={style}"]
            for style in ("table", "json", "csv")
        },
    }


READ_ONLY = ("open log.jsonl", "open figures-scores.npz", "open out.csv", "open left-out.jsonl", "open page.html")
TRAININGS = ("train", "image cache", "feature cache")
NEVER = 10**6


def run_in(place: Path, command: list[str], act: Act) -> tuple[int, str]:
    """A command in a child that stands in ``place``, with an act at every change there."""

    def work() -> int:
        torch.set_num_threads(1)
        on_change(place, act)
        if command[0] == "predict":
            act("open stdout", "")
        return main(command)

    return child(work, inside=place, out=place.parent / "stdout" if command[0] == "predict" else None)


def changes(place: Path, command: list[str]) -> list[str]:
    """All changes of a command that goes well."""
    found = place.parent / "changes"
    found.write_text("")
    code, printed = run_in(place, command, lambda change, _: print(change, file=found.open("a")))
    assert code in (0, 1), printed
    return found.read_text().splitlines()


def content(place: Path) -> dict[str, bytes]:
    """Every file by its path, and every folder."""
    found = {path.relative_to(place).as_posix(): path for path in sorted(place.rglob("*"))}
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in found.items()}


def differ(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    return [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]


def left_in(place: Path) -> dict[str, object]:
    """What a training leaves: the run without times, and the names of all files."""
    return {**result(place / "run"), "names": [name for name in content(place) if not name.startswith("run/log")]}


def numbers(made: list[str], which: str, name: str) -> list[int]:
    """The changes to inject at: all, or of every kind the last; of a cache those that make it, as the rest is train."""
    found = enumerate(made if "cache" not in name else made[: made.index("open last.pt")])
    return sorted({change if which == "each" else n: n for n, change in found}.values())


def faults_at(change: str, which: str) -> list[str]:
    """A full disk where content follows: the change opens a file, or a library that asks nobody opens the next."""
    content = change.startswith("open") or change in ("mkdir bundle.partial", "rename model.safetensors")
    read_only = which == "all" or change in ("rename bundle.partial", "open lock", *READ_ONLY)
    return ["full"] * content + ["read-only"] * (read_only and change != "open stdout")


def main_program() -> None:
    folder, which = Path(sys.argv[1]).resolve(), sys.argv[2]
    scenes = folder / "scenes"
    warm()
    write_scenes(scenes, train=32, val=9, test=4, size=64)
    for split in ("train", "val"):  # a duplicate, so that a fix has something to leave out
        shutil.copy(scenes / "images" / split / "000000.jpg", scenes / "images" / split / "000001.jpg")
    for name, command in commands(scenes, folder / "train" / "whole" / "run").items():
        whole = folder / name / "whole"
        whole.mkdir(parents=True)
        made = changes(whole, command)
        compared = name == "train" or (which == "all" and name in TRAININGS)
        expected = left_in(whole) if compared else {}
        replaces = not (name in TRAININGS or name.startswith("predict"))
        starts = [] if replaces and which == "each" else [(made, command, None)]
        if replaces:
            other = [each.replace("/train.csv", "/val.csv").replace("train=train", "train=val") for each in command]
            other += ["--tuned"] if name == "evaluate" else []
            starts.append((changes(copied(whole, folder / name / "counted"), other), other, whole))
        for made, given, old in starts:
            for number in numbers(made, which, name):
                for fault in faults_at(made[number], which):
                    place = copied(old, folder / name / "tried") if old else folder / name / "tried"
                    place.mkdir(exist_ok=True)
                    before = content(place)
                    code, printed = run_in(place, given, at(number, FAULTS[fault]))
                    row = {"command": name, "fault": fault, "change": made[number], "code": code, "printed": printed}
                    row |= {"over old": bool(old), "differ": differ(before, content(place))}
                    row |= {"resumed": resumed(place, given, expected)} if expected else {}
                    print(json.dumps(row), flush=True)
                    shutil.rmtree(place)


def resumed(place: Path, command: list[str], expected: dict[str, object]) -> list[str]:
    """Go on after the fault as the message says; what then differs from an uninterrupted run."""
    again = ["train", "--resume", "run"] if (place / "run" / "last.pt").exists() else command
    code, printed = run_in(place, again, at(NEVER, lambda *_: None))
    if code:
        return [printed]
    found = left_in(place)
    return [part for part in expected if found.get(part) != expected[part]]


def copied(whole: Path, place: Path) -> Path:
    shutil.copytree(whole, place)
    return place


if __name__ == "__main__":
    main_program()
