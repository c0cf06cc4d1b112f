"""Kill trainings, resume them, and compare: ``kill_runs.py FOLDER KILLS SEED each|all``.

First at random instants, then at every kind of change that a training makes in its folder, and in the middle of writing
a checkpoint and a bundle: ``each`` kills one training there again and again, and begins another when it is at its end;
``all`` kills a training of its own every time.

Every training is a child that was forked after the imports, so that a kill costs a second and not five. Prints one line
per kill; the exit code is 1 if a resumed run differs from an uninterrupted one in any byte but times.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from injected import Act, kill, on_change, torn, warm
from runs import TRICKY, result

from msrn.config import Settings, load_settings, merge
from msrn.demo.scenes import write_scenes
from msrn.engine.trainer import train
from msrn.presets import preset

TOO_LONG = 120  # seconds that a training may take

IN_THE_MIDDLE = {"half a checkpoint": "open last.pt", "half a bundle": "mkdir bundle.partial"}
"""Writes that are killed at a byte of the file, and the change that they follow."""


def settings_of(name: str, scenes: Path) -> Settings:
    """Of one of the tricky runs, in the folder ``run`` of where the process stands."""
    data = {"reader": "table", "root": str(scenes), "train": "train", "val": "val", "batch_size": 16}
    run = {"folder": "run", "device": "cpu", "checkpoint_minutes": 0}  # a checkpoint after every step
    tree = merge(preset("tiny"), {"data": data, "run": run, "model": {"freeze_norm": False}})
    return load_settings(merge(tree, TRICKY[name]))


def trained(place: Path, name: str, scenes: Path, act: Act | None) -> None:
    """The child: start or resume."""
    os.chdir(place)
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    sys.dont_write_bytecode = True  # a compiled module that is cut short would break the installation
    if act:
        on_change(place, act)
    train(settings_of(name, scenes), resume=Path("run/last.pt").exists())


def start(place: Path, name: str, scenes: Path, act: Act | None = None) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=trained, args=(place, name, scenes, act))
    child.start()
    return child


def finish(place: Path, name: str, scenes: Path, act: Act | None = None) -> float:
    """Seconds until the training is done."""
    began = time.monotonic()
    child = start(place, name, scenes, act)
    child.join(TOO_LONG)
    if child.exitcode != 0:
        raise SystemExit(f"{name}: the training ended with {child.exitcode}")
    return time.monotonic() - began


def left(place: Path) -> object:
    """All that a run leaves, and the names of all files."""
    return result(place / "run"), sorted(path.name for path in place.rglob("*"))


def at_random(folder: Path, scenes: Path, kills: int, chance: random.Random, whole: dict[str, object]) -> int:
    """Kill at random instants; the number of resumed runs that differ."""
    wrong = 0
    seconds = {name: finish(new(folder / f"timed {name}"), name, scenes) for name in TRICKY}
    for number in range(kills):
        name = list(TRICKY)[number % len(TRICKY)]
        place = new(folder / f"killed {number}")
        instants = []
        for _ in range(chance.choice((1, 1, 2))):  # some are killed twice
            child = start(place, name, scenes)
            instants.append(chance.uniform(0, seconds[name]))
            child.join(instants[-1])
            if child.is_alive():
                os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
        finish(place, name, scenes)
        same = left(place) == whole[name]
        wrong += not same
        print(f"{name}, killed after {', '.join(f'{t:.2f} s' for t in instants)}: {'same' if same else 'DIFFERS'}")
    return wrong


def at_changes(folder: Path, scenes: Path, which: str, name: str, whole: object) -> int:
    """Kill at named changes; the number of resumed runs that differ, or were not killed."""
    wrong = 0
    found = folder / "changes"
    finish(new(folder / "counted"), name, scenes, lambda change, _: print(change, file=found.open("a")))
    kinds = list(dict.fromkeys(found.read_text().splitlines()))
    points = {point: (point, kill) for point in kinds}
    points |= {what: (change, torn()) for what, change in IN_THE_MIDDLE.items()}
    place = None
    for number, point in enumerate(sorted(points, key=lambda point: kinds.index(points[point][0]))):
        hit = place is not None and killed_at(place, name, scenes, *points[point])
        if not hit:  # the training before has come to its end without it, or there is none yet
            wrong += place is not None and differs(place, name, scenes, whole)
            place = new(folder / f"point {number}")
            hit = killed_at(place, name, scenes, *points[point])
        wrong += not hit
        print(f"killed at {point}: {'hit' if hit else 'MISSED'}")
        if which == "all" or number + 1 == len(points):
            wrong += differs(place, name, scenes, whole)
            place = None
    return wrong


def killed_at(place: Path, name: str, scenes: Path, change: str, fault: Callable[[str], None]) -> bool:
    """Start or resume a training that is killed at a change; False if it ended without coming to it."""
    child = start(place, name, scenes, lambda seen, path: seen == change and fault(path))
    child.join(TOO_LONG)
    return child.exitcode in (-signal.SIGKILL, -signal.SIGXFSZ)


def differs(place: Path, name: str, scenes: Path, whole: object) -> bool:
    """Finish a training that was killed at named changes; whether it left anything else than an uninterrupted one."""
    finish(place, name, scenes)
    same = left(place) == whole
    print(f"{name}, killed at the changes above: {'same' if same else 'DIFFERS'}")
    return not same


def new(place: Path) -> Path:
    place.mkdir()
    return place


def main() -> int:
    folder, kills, seed, which = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    scenes = folder / "scenes"
    warm()
    write_scenes(scenes, train=48, val=13, test=2, size=64)
    whole = {}
    for name in TRICKY:
        finish(new(folder / f"whole {name}"), name, scenes)
        whole[name] = left(folder / f"whole {name}")
    wrong = at_random(folder, scenes, kills, random.Random(seed), whole)
    name = "EMA and accumulation"
    return int(wrong + at_changes(folder, scenes, which, name, whole[name]) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
