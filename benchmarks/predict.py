"""Images per second of a predictor, the share of each part in its time, and a cold start."""

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
from network import build, label_inputs, preset_with
from PIL import Image
from timing import Times, seconds, side_by_side

from msrn.bundle.metadata import Metadata
from msrn.bundle.write import write_bundle
from msrn.data.transforms import Preprocessing
from msrn.inference.predictor import Predictor
from msrn.labels.space import LabelSpace


def draw_images(folder: Path, count: int, size: tuple[int, int] = (500, 375)) -> list[Path]:
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
    settings, inputs = preset_with("voc2007_lite"), label_inputs(20)
    metadata = Metadata(
        labels=inputs.names,
        labels_digest=LabelSpace(inputs.names).digest,
        preprocessing=Preprocessing(size=settings.data.image_size),
        precision=settings.run.precision,
        thresholds=dict.fromkeys(inputs.names, 0.5),
        thresholds_chosen="0.5 for all labels",
        thresholds_split=None,
        splits={},
        epoch=1,
        metrics={},
        embeddings=None,
        graph=None,
        settings=settings.model_dump(mode="json"),
        versions={},
        files={},
    )
    write_bundle(folder / "bundle", build(settings.model, len(inputs)), inputs, metadata)
    return folder / "bundle"


class Spent:
    """Seconds of wall time by part; the time of a part inside another is subtracted from the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside under ``name``."""
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


def throughput(bundle: Path, images: list[Path]) -> list[dict[str, Any]]:
    """Images per second, one and 32 at a time, as trained and with the fastest variant."""
    rows = []
    for optimize in (False, True):
        predictor = Predictor.load(bundle, device="cpu", optimize=optimize)
        list(predictor.predict(images[:32]))
        variant = "optimised" if optimize else "as trained"
        many = side_by_side({"many": lambda p=predictor: list(p.predict(images, batch_size=32))})["many"]
        rows.append(_rate(f"Predictor, Lite0, 224 px, JPEG files, 32 at a time, {variant}", many, len(images)))
        one = side_by_side({"one": lambda p=predictor: [p(path) for path in images[:32]]})["one"]
        rows.append(_rate(f"Predictor, Lite0, 224 px, JPEG files, one at a time, {variant}", one, 32))
    return rows


def _rate(what: str, times: Times, count: int) -> dict[str, Any]:
    return {"what": what, "value": f"{count / times.median:.1f} images/s", "images_per_second": count / times.median}


def shares(bundle: Path, images: list[Path], batch: int) -> dict[str, float]:
    """Share of each part in the wall time of ``predict``, with everything one after another in one thread."""
    predictor = Predictor.load(bundle, device="cpu")
    spent = Spent()
    model: Any = predictor._model
    semantics = model.head.semantics
    with (
        mock.patch.object(predictor, "_read", spent.around("decode and resize", predictor._read)),
        mock.patch.object(model.backbone, "forward", spent.around("backbone", model.backbone.forward)),
        mock.patch.object(semantics, "forward", spent.around("semantics", semantics.forward)),
        mock.patch(
            "msrn.models.heads.msrn.semantic_attention",
            spent.around("semantic attention", sys.modules["msrn.models.heads.msrn"].semantic_attention),
        ),
    ):
        for start in range(0, len(images), batch):
            with spent.part("rest"):
                read = [predictor._read(path) for path in images[start : start + batch]]
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
from msrn.ops.semantic_attention import set_default_form; set_default_form("chunked")
import sys; predictor = Predictor.load(sys.argv[1], device="cpu"); done("bundle")
predictor(sys.argv[2]); marks = done("image")
import json; times = [began] + [mark for _, mark in marks]
print(json.dumps({name: times[n + 1] - times[n] for n, (name, _) in enumerate(marks)}))
"""


def cold(bundle: Path, image: Path, runs: int = 11) -> list[dict[str, Any]]:
    """``msrn predict`` of one image from the start of the process, and the parts of that time."""
    command = [str(Path(sys.executable).with_name("msrn")), "predict", str(bundle), str(image), "--device", "cpu"]
    times = side_by_side({"cold": lambda: subprocess.run(command, check=True, capture_output=True)}, runs=runs)["cold"]
    parts = [
        json.loads(subprocess.run([sys.executable, "-c", COLD, bundle, image], check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    middle = {name: float(np.median([part[name] for part in parts])) for name in parts[0]}
    shown = ", ".join(f"{name} {seconds(value)}" for name, value in middle.items())
    return [
        {
            "what": "cold msrn predict of one image, from process start",
            "value": str(times),
            "seconds": times.median,
            "max_seconds": 4.0,
            "note": f"of which: {shown}; the rest is Python's own start, the command line and the end of the process",
        }
    ]


def measure() -> list[dict[str, Any]]:
    """All rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, images = voc_lite_bundle(folder), draw_images(folder, 128)
        rows = throughput(bundle, images)
        for batch in (1, 32):
            part = shares(bundle, images, batch)
            ordered = sorted(part.items(), key=lambda item: -item[1])
            value = ", ".join(f"{name} {100 * share:.0f} %" for name, share in ordered)
            rows.append({"what": f"parts of the time of Predictor, {batch} at a time", "value": value, "shares": part})
        return [*rows, *cold(bundle, images[0])]


if __name__ == "__main__":
    torch.manual_seed(0)
    for row in measure():
        print(row)
