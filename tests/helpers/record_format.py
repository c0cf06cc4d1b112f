"""Record a bundle and a half-done run in the format of today: ``record_format.py FILE.tar.xz``.

The archive holds ``data/`` (images and tables), ``run/`` (interrupted after the first of two epochs, with its bundle)
and ``expected.json`` (scores of the bundle, its mAP, and the mAP with which the run ends). The weights are cut to
8 bits of precision, so that they compress.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import small_network  # noqa: F401 - the network of the run
import torch
from PIL import Image, ImageDraw

from msrn.bundle.metadata import read_metadata
from msrn.bundle.read import read_bundle
from msrn.bundle.split_images import read_split_images
from msrn.bundle.write import write_bundle
from msrn.config import load_settings, merge
from msrn.engine.evaluate import evaluate
from msrn.engine.run_folder import RunFolder, read_state
from msrn.engine.trainer import Interrupted, Trainer, train
from msrn.inference.predictor import Predictor
from msrn.presets import preset

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230), "yellow": (240, 220, 40)}
SETTINGS = {
    "data": {"reader": "table", "root": "data", "train": "train", "val": "val", "image_size": 32, "batch_size": 8},
    "labels": {"embeddings": "onehot"},
    "model": {"backbone": "msrn_small", "head": {"width": 8}},
    "optim": {"name": "sgd", "momentum": 0.0},
    "run": {"folder": "run", "device": "cpu"},
}


def draw() -> None:
    """Sixteen images to train on and eight to evaluate: every set of colours, as stripes."""
    for split, count in (("train", 16), ("val", 8)):
        rows = ["image,labels"]
        Path(f"data/{split}").mkdir(parents=True)
        for number in range(count):
            image = Image.new("RGB", (32, 32), (8 * number, 90, 120))
            names = [name for bit, name in enumerate(COLOURS) if (number * (1 if count == 16 else 5) + 3) >> bit & 1]
            for place, name in enumerate(names):
                ImageDraw.Draw(image).rectangle((8 * place, number, 8 * place + 5, 31), COLOURS[name])
            image.save(f"data/{split}/{number:02}.png")
            rows.append(f"{split}/{number:02}.png,{'|'.join(names) or '-'}")
        Path(f"data/{split}.csv").write_text("\n".join(rows) + "\n")


def record() -> None:
    """Everything, in the folder where the process stands."""
    draw()
    settings = load_settings(merge(preset("tiny"), SETTINGS))
    save = Trainer.save

    def save_and_stop(trainer: Trainer, *, first: bool = False) -> None:
        save(trainer, first=first)
        if trainer.progress.epochs == 1:
            raise Interrupted(trainer.folder.path)

    Trainer.save = save_and_stop  # type: ignore[method-assign]
    try:
        train(settings)
    except Interrupted:
        Trainer.save = save  # type: ignore[method-assign]
    state = read_state(Path("run"))
    for value in state["model"].values():
        if value.is_floating_point():
            value.copy_(value.to(torch.bfloat16))
    RunFolder(Path("run"), writes=True).save_state(state)
    bundle = read_bundle("run", precompute=False)
    bundle.model.load_state_dict(state["model"])
    metadata = read_metadata("run")
    images = read_split_images(Path("run/bundle"), metadata)
    write_bundle(Path("run/bundle"), bundle.model, bundle.inputs, metadata, split_images=images)
    shutil.copytree("run", "done")
    images = sorted(Path("data/val").iterdir())
    expected = {
        "scores": [dict(sorted(found.ranked)) for found in Predictor.load("run", device="cpu").predict(images)],
        "mAP": evaluate("run", settings, out="figures.json")[0].metrics.mean_ap,
        "final mAP": train(
            load_settings(merge(preset("tiny"), {**SETTINGS, "run": {**SETTINGS["run"], "folder": "done"}})),
            resume=True,
        ).val_map,
    }
    Path("expected.json").write_text(json.dumps(expected, indent=1))


def main() -> None:
    target = Path(sys.argv[1]).resolve()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        record()
        with tarfile.open(target, "w:xz", preset=9) as archive:
            for name in ("data", "run", "expected.json"):
                archive.add(name)
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
