"""How many pictures does a predictor tag a second, where does the time go, and how long does the first one take?"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from network import build
from PIL import Image
from timing import Times, seconds, side_by_side

from msrn.bundle.files import write_bundle
from msrn.config import load_settings, preset
from msrn.data.transforms import Preprocessing
from msrn.inference.predictor import Predictor
from msrn.labels.space import LabelSpace


def draw_pictures(folder: Path, count: int, size: tuple[int, int] = (500, 375)) -> list[Path]:
    """JPEG files of VOC's usual size with some structure in them: decoding pure noise would take longer."""
    generator = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        fine = generator.normal(0, 6, (size[1], size[0], 3))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) + fine
        paths.append(folder / f"{number:03}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def voc_lite_bundle(folder: Path) -> Path:
    """A bundle of the preset voc2007_lite with random weights, 20 labels."""
    settings = load_settings(preset("voc2007_lite"))
    labels = LabelSpace([f"label {number:02}" for number in range(20)])
    model = build(settings.model, 20)
    write_bundle(
        folder / "bundle",
        model,
        labels=labels,
        preprocessing=Preprocessing(size=settings.data.image_size),
        thresholds=[0.5] * 20,
        settings=settings,
        facts={},
    )
    return folder / "bundle"


class Spent:
    """Seconds by part, of wall time; a part inside another is taken off it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs inside under ``name``."""
        began, before = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            inside = sum(self.seconds.values()) - before
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began - inside

    def around(self, name: str, function: Any) -> Any:
        """``function``, counted."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return counted


def throughput(bundle: Path, pictures: list[Path]) -> list[dict[str, Any]]:
    """Pictures a second, one and 32 at a time, and the shares of each part where nothing runs beside anything."""
    rows = []
    for optimize in (False, True):
        predictor = Predictor.load(bundle, device="cpu", optimize=optimize)
        list(predictor.predict(pictures[:32]))
        told = "optimised" if optimize else "as trained"
        many = side_by_side({"many": lambda p=predictor: list(p.predict(pictures, batch_size=32))})["many"]
        rows.append(_rate(f"Predictor, Lite0, 224 px, JPEG files, 32 at a time, {told}", many, len(pictures)))
        one = side_by_side({"one": lambda p=predictor: [p(path) for path in pictures[:32]]})["one"]
        rows.append(_rate(f"Predictor, Lite0, 224 px, JPEG files, one at a time, {told}", one, 32))
    return rows


def _rate(what: str, times: Times, count: int) -> dict[str, Any]:
    return {"what": what, "value": f"{count / times.median:.1f} images/s", "images_per_second": count / times.median}


def shares(bundle: Path, pictures: list[Path], batch: int) -> dict[str, float]:
    """Share of the wall time by part, of ``predict`` with everything in one thread after another."""
    predictor = Predictor.load(bundle, device="cpu")
    spent = Spent()
    model = predictor._model
    with (
        mock.patch.object(predictor, "_read", spent.around("decode and resize", predictor._read)),
        mock.patch.object(model.backbone, "forward", spent.around("backbone", model.backbone.forward)),
        mock.patch.object(model.semantics, "forward", spent.around("semantics", model.semantics.forward)),
        mock.patch(
            "msrn.models.heads.msrn.semantic_attention",
            spent.around("semantic attention", sys.modules["msrn.models.heads.msrn"].semantic_attention),
        ),
    ):
        for start in range(0, len(pictures), batch):
            with spent.part("rest"):
                read = [predictor._read(path) for path in pictures[start : start + batch]]
                list(predictor._predict_batch(read))
            if start == 0:
                spent.seconds.clear()  # the first batch warms up
    whole = sum(spent.seconds.values())
    return {name: value / whole for name, value in spent.seconds.items()}


COLD = """
from msrn.__main__ import collect_garbage_seldom; collect_garbage_seldom()
import time; began = time.perf_counter()
def done(name, marks=[]):
    marks.append((name, time.perf_counter())); return marks
import torch; done("torch")
import torchvision; done("torchvision")
import timm; done("timm")
from msrn.inference.predictor import Predictor; done("msrn")
import sys; predictor = Predictor.load(sys.argv[1], device="cpu", few=True); done("bundle")
predictor(sys.argv[2]); marks = done("picture")
import json; times = [began] + [mark for _, mark in marks]
print(json.dumps({name: times[n + 1] - times[n] for n, (name, _) in enumerate(marks)}))
"""


def cold(bundle: Path, picture: Path, runs: int = 11) -> list[dict[str, Any]]:
    """``msrn predict`` of one picture from the start of the process, and where such a process spends its time."""
    command = [str(Path(sys.executable).with_name("msrn")), "predict", str(bundle), str(picture), "--device", "cpu"]
    times = side_by_side({"cold": lambda: subprocess.run(command, check=True, capture_output=True)}, runs=runs)["cold"]
    parts = [
        json.loads(
            subprocess.run([sys.executable, "-c", COLD, bundle, picture], check=True, capture_output=True).stdout
        )
        for _ in range(3)
    ]
    middle = {name: float(np.median([part[name] for part in parts])) for name in parts[0]}
    told = ", ".join(f"{name} {seconds(value)}" for name, value in middle.items())
    return [
        {
            "what": "cold msrn predict of one picture, from process start",
            "value": str(times),
            "seconds": times.median,
            "at_most_seconds": 4.0,
            "note": f"of which: {told}; the rest is Python's own start, the command line and the end of the process",
        }
    ]


def measure() -> list[dict[str, Any]]:
    """All rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, pictures = voc_lite_bundle(folder), draw_pictures(folder, 128)
        rows = throughput(bundle, pictures)
        for batch in (1, 32):
            part = shares(bundle, pictures, batch)
            told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in sorted(part.items(), key=lambda p: -p[1]))
            rows.append({"what": f"where the time of Predictor goes, {batch} at a time", "value": told, "shares": part})
        return [*rows, *cold(bundle, pictures[0])]


if __name__ == "__main__":
    torch.manual_seed(0)
    for row in measure():
        print(row)
