"""What does MSRN cost beside its backbone, in inference and in training, and what would the plain operator cost?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from timing import Run, Times, mebibytes, peak_memory, ratio, side_by_side
from torch import Tensor

from msrn.config import ModelSettings, Settings, load_settings, preset
from msrn.engine.optim import build_optimizer, freeze_backbone, hold_norms
from msrn.losses.soft_margin import soft_margin
from msrn.models import Tagger, build_model
from msrn.ops.semantic_attention import semantic_attention, semantic_attention_reference


def build(settings: ModelSettings, labels: int) -> Tagger:
    """A network with random weights: speed does not depend on them."""
    torch.manual_seed(0)
    settings = settings.model_copy(update={"weights": "none"})
    generator = np.random.default_rng(0)
    edges = (generator.random((labels, labels)) < 0.05) | np.eye(labels, dtype=bool)
    model = build_model(
        settings,
        label_vectors=torch.from_numpy(generator.standard_normal((labels, 300)).astype(np.float32)),
        adjacency=torch.from_numpy(edges.astype(np.float32)),
        image_size=None,
    )
    return model.to(memory_format=torch.channels_last)


@contextmanager
def operator(form: str) -> Iterator[None]:
    """MSRN with another form of its operator; ``none`` puts a mean over positions in its place."""
    forms = {"auto": semantic_attention, "reference": semantic_attention_reference, "none": _mean}
    with mock.patch(
        "msrn.models.heads.msrn.semantic_attention", lambda features, vectors, **_: forms[form](features, vectors)
    ):
        yield


def _mean(features: Tensor, vectors: Tensor) -> Tensor:
    return features.mean(dim=1, keepdim=True) * vectors


def inference(images: int = 4, size: int = 448) -> list[dict[str, Any]]:
    """MSRN-ResNet-101 with COCO's 80 labels beside its own backbone, with either head."""
    image = _batch(images, size, 80)[0]
    rows = []
    for head, bar in (("per_label", {"at_most": 1.10}), ("flatten", {})):
        model = build(_coco(head).model, 80).eval()
        model.fold()
        calls = {
            "bare": functools.partial(_infer, model.backbone, image),
            "whole": functools.partial(_infer, model, image),
        }
        times = side_by_side(calls, runs=15)
        what = f"MSRN-R101, COCO, {size} px, B={images}: whole network over its bare backbone, head {head}"
        rows.append(_row(what, times["whole"], times["bare"], **bar))
    return rows


def _coco(head: str) -> Settings:
    settings = load_settings(preset("coco2014"))
    return settings.model_copy(update={"model": settings.model.model_copy(update={"head": head})})


def _infer(module: torch.nn.Module, image: Tensor, form: str = "auto") -> None:
    with torch.inference_mode(), operator(form):
        module(image)


def beside_plain() -> list[dict[str, Any]]:
    """The same networks with the plain operator in place of ours: predicting, and a whole optimiser step."""
    model, image = build(_coco("per_label").model, 80).eval(), _batch(4, 448, 80)[0]
    model.fold()
    times = side_by_side({form: functools.partial(_infer, model, image, form) for form in ("reference", "auto")})
    what = "MSRN-R101, COCO, 448 px, B=4: with the plain operator over ours"
    return [_row(what, times["reference"], times["auto"], at_least=1.35), *_training_beside_plain()]


def _training_beside_plain(images: int = 8, size: int = 224) -> list[dict[str, Any]]:
    step, batch = training_step(_coco("per_label"), 80), _batch(images, size, 80)

    def run(form: str) -> None:
        with operator(form):
            step(*batch)

    forms = ("auto", "reference", "none")
    times = side_by_side({form: functools.partial(run, form) for form in forms})
    memory = {form: peak_memory(functools.partial(run, form)) for form in forms}
    ours, plain = (max(memory[form] - memory["none"], 0) for form in ("auto", "reference"))
    what = f"training step, MSRN-R101, COCO, {size} px, B={images}"
    return [
        _row(f"{what}: with the plain operator over ours", times["reference"], times["auto"], at_least=1.0),
        {
            "what": f"{what}: extra memory of attention, plain over ours",
            "slow": mebibytes(plain),
            "fast": mebibytes(ours),
            "ratio": plain / max(ours, 2**20),
            "bar": 10,
        },
    ]


def training_lite(images: int = 32, size: int = 224) -> list[dict[str, Any]]:
    """A whole optimiser step of the preset voc2007_lite beside its baseline; and the same with nothing held fixed."""
    rows = []
    for freeze, told in ((0, "all layers trained"), (3, "stem and two stages fixed")):
        steps: dict[str, Run] = {}
        for name in ("msrn", "average_pool"):
            settings = load_settings(preset("voc2007_lite"))
            model = settings.model.model_copy(update={"name": name, "freeze": freeze, "freeze_norm": freeze > 0})
            settings = settings.model_copy(update={"model": model})
            steps[name] = functools.partial(training_step(settings, 20), *_batch(images, size, 20))
        times = side_by_side(steps, runs=15)
        what = f"training step, Lite0, VOC, {size} px, B={images}, {told}: MSRN over average pool + linear"
        rows.append(_row(what, times["msrn"], times["average_pool"], at_most=1.25))
    return rows


def training_step(settings: Settings, labels: int) -> Callable[[Tensor, Tensor], None]:
    """A network with random weights and what trains it by one batch: forward, backward, and the optimiser's step."""
    model = build(settings.model, labels)
    freeze_backbone(model.backbone, settings.model.freeze)
    model.train()
    hold_norms(model.backbone, everywhere=settings.model.freeze_norm)
    optimizer = build_optimizer(model, settings.optim)

    def step(image: Tensor, target: Tensor) -> None:
        output = model(image)
        (soft_margin(output.logits, target) + sum(output.aux.values())).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _batch(images: int, size: int, labels: int) -> tuple[Tensor, Tensor]:
    image = torch.randn(images, 3, size, size).contiguous(memory_format=torch.channels_last)
    return image, (torch.rand(images, labels) < 0.1).float()


def _row(what: str, slow: Times, fast: Times, **bar: float) -> dict[str, Any]:
    return {"what": what, "slow": str(slow), "fast": str(fast), "ratio": ratio(slow, fast), **bar}


def measure() -> list[dict[str, Any]]:
    """What MSRN costs beside its backbone, and beside average pool + linear."""
    return [*inference(), *training_lite()]


if __name__ == "__main__":
    for row in [*measure(), *beside_plain()]:
        print(row)
