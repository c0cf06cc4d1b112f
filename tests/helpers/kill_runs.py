"""Kill trainings at random instants, resume them, and compare: ``kill_runs.py FOLDER KILLS SEED``.

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
from pathlib import Path

import torch
from runs import TRICKY, result

from msrn.config import load_settings, merge
from msrn.demo.scenes import write_scenes
from msrn.engine.trainer import train
from msrn.presets import preset

TOO_LONG = 120  # seconds that a training may take


def settings_of(name: str, scenes: Path) -> object:
    """Of one of the tricky runs, in the folder ``run`` of where the process stands."""
    data = {"reader": "table", "root": str(scenes), "train": "train", "val": "val", "batch_size": 16}
    run = {"folder": "run", "device": "cpu", "checkpoint_minutes": 0}  # a checkpoint after every step
    tree = merge(preset("tiny"), {"data": data, "run": run, "model": {"freeze_norm": False}})
    return load_settings(merge(tree, TRICKY[name]))


def trained(place: Path, name: str, scenes: Path) -> None:
    """The child: start or resume."""
    os.chdir(place)
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    train(settings_of(name, scenes), resume=Path("run/last.pt").exists())  # type: ignore[arg-type]


def start(place: Path, name: str, scenes: Path) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=trained, args=(place, name, scenes))
    child.start()
    return child


def finish(place: Path, name: str, scenes: Path) -> float:
    """Seconds until the training is done."""
    began = time.monotonic()
    child = start(place, name, scenes)
    child.join(TOO_LONG)
    if child.exitcode != 0:
        raise SystemExit(f"{name}: the training ended with {child.exitcode}")
    return time.monotonic() - began


def main() -> int:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    scenes = folder / "scenes"
    write_scenes(scenes, train=48, val=13, test=2, size=64)
    whole, seconds = {}, {}
    for name in TRICKY:
        place = folder / f"whole {name}"
        place.mkdir()
        seconds[name] = finish(place, name, scenes)
        whole[name] = result(place / "run"), sorted(p.name for p in place.rglob("*"))
    chance, wrong = random.Random(seed), 0
    for number in range(kills):
        name = list(TRICKY)[number % len(TRICKY)]
        place = folder / f"killed {number}"
        place.mkdir()
        instants = []
        for _ in range(chance.choice((1, 1, 2))):  # some are killed twice
            child = start(place, name, scenes)
            instants.append(chance.uniform(0, seconds[name]))
            child.join(instants[-1])
            if child.is_alive():
                os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
        finish(place, name, scenes)
        same = (result(place / "run"), sorted(p.name for p in place.rglob("*"))) == whole[name]
        wrong += not same
        print(f"{name}, killed after {', '.join(f'{t:.2f} s' for t in instants)}: {'same' if same else 'DIFFERS'}")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
