"""Time and memory of MSRN beside its bare backbone and beside pooling, with our operator and with the plain one."""

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

from msrn.config import ModelSettings, Settings, load_settings, merge
from msrn.engine.optim import build_optimizer
from msrn.losses.soft_margin import soft_margin
from msrn.models.classifier import MultiLabelClassifier, build_without_weights
from msrn.models.heads.base import LabelInputs
from msrn.ops.semantic_attention import semantic_attention, semantic_attention_reference
from msrn.presets import preset


def build(settings: ModelSettings, labels: int) -> MultiLabelClassifier:
    """A network with random weights: speed does not depend on them."""
    torch.manual_seed(0)
    return build_without_weights(settings, label_inputs(labels)).to(memory_format=torch.channels_last)


def label_inputs(labels: int) -> LabelInputs:
    """Random embeddings and a random graph."""
    generator = np.random.default_rng(0)
    edges = (generator.random((labels, labels)) < 0.05) | np.eye(labels, dtype=bool)
    embeddings = generator.standard_normal((labels, 300)).astype(np.float32)
    names = tuple(f"label {number:02}" for number in range(labels))
    return LabelInputs(names, torch.from_numpy(embeddings), torch.from_numpy(edges.astype(np.float32)))


def preset_with(name: str, **sections: Any) -> Settings:
    """The settings of a preset with other values."""
    return load_settings(merge(preset(name), sections))


@contextmanager
def operator(form: str) -> Iterator[None]:
    """MSRN with another form of its operator; ``none`` replaces it by a mean over positions."""
    forms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"reference": semantic_attention_reference, "none": _mean}
    chosen = forms.get(form) or functools.partial(semantic_attention, form=form)
    with mock.patch(
        "msrn.models.heads.msrn.semantic_attention", lambda features, vectors, **_: chosen(features, vectors)
    ):
        yield


def _mean(features: Tensor, vectors: Tensor) -> Tensor:
    return features.mean(dim=1, keepdim=True) * vectors


def inference(images: int = 4, size: int = 448) -> list[dict[str, Any]]:
    """MSRN-ResNet-101 with COCO's 80 labels beside its own backbone, with either output layer."""
    image = _batch(images, size, 80)[0]
    rows = []
    for layer, target in (("per_label", {"max_ratio": 1.10}), ("flatten", {})):
        model = build(_coco(layer).model, 80).eval()
        model.precompute()
        calls = {
            "bare": functools.partial(_infer, model.backbone, image),
            "whole": functools.partial(_infer, model, image),
        }
        times = side_by_side(calls, runs=15)
        what = f"MSRN-R101, COCO, {size} px, B={images}: whole network over its bare backbone, output layer {layer}"
        rows.append(_row(what, times["whole"], times["bare"], **target))
    return rows


def _coco(output_layer: str) -> Settings:
    return preset_with("coco2014", model={"head": {"output_layer": output_layer}})


def _infer(module: torch.nn.Module, image: Tensor, form: str = "auto") -> None:
    with torch.inference_mode(), operator(form):
        module(image)


def beside_plain() -> list[dict[str, Any]]:
    """The same networks with the plain operator in place of ours: prediction, and a whole optimizer step."""
    model, image = build(_coco("per_label").model, 80).eval(), _batch(4, 448, 80)[0]
    model.precompute()
    times = side_by_side({form: functools.partial(_infer, model, image, form) for form in ("reference", "auto")})
    what = "MSRN-R101, COCO, 448 px, B=4: with the plain operator over ours"
    return [_row(what, times["reference"], times["auto"], min_ratio=1.35), *_training_beside_plain()]


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
        _row(f"{what}: with the plain operator over ours", times["reference"], times["auto"], min_ratio=1.0),
        {
            "what": f"{what}: extra memory of attention, plain over ours",
            "slow": mebibytes(plain),
            "fast": mebibytes(ours),
            "ratio": plain / max(ours, 2**20),
            "min_ratio": 10,
        },
    ]


def training_lite(images: int = 32, size: int = 224) -> list[dict[str, Any]]:
    """A whole optimizer step of the preset voc2007_lite beside its baseline, with frozen stages and without."""
    rows = []
    for freeze, trained in ((0, "all layers trained"), (3, "stem and two stages fixed")):
        steps: dict[str, Run] = {}
        for head in ("msrn", "average_pool"):
            model = {"head": {"name": head}, "freeze": freeze, "freeze_norm": freeze > 0}
            step = training_step(preset_with("voc2007_lite", model=model), 20)
            steps[head] = functools.partial(step, *_batch(images, size, 20))
        times = side_by_side(steps, runs=15)
        what = f"training step, Lite0, VOC, {size} px, B={images}, {trained}: MSRN over average pool + linear"
        rows.append(_row(what, times["msrn"], times["average_pool"], max_ratio=1.25))
    return rows


def training_step(settings: Settings, labels: int) -> Callable[[Tensor, Tensor], None]:
    """A training step of a network with random weights: forward, backward, and the optimizer's step."""
    model = build(settings.model, labels)
    model.backbone.freeze(settings.model.freeze)
    model.train()
    model.backbone.hold_norms(everywhere=settings.model.freeze_norm)
    optimizer = build_optimizer(model, settings.optim)

    def step(image: Tensor, target: Tensor) -> None:
        output = model(image)
        (soft_margin(output.logits, target) + sum(output.aux_losses.values())).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _batch(images: int, size: int, labels: int) -> tuple[Tensor, Tensor]:
    image = torch.randn(images, 3, size, size).contiguous(memory_format=torch.channels_last)
    return image, (torch.rand(images, labels) < 0.1).float()


def _row(what: str, slow: Times, fast: Times, **target: float) -> dict[str, Any]:
    return {"what": what, "slow": str(slow), "fast": str(fast), "ratio": ratio(slow, fast), **target}


def measure() -> list[dict[str, Any]]:
    """MSRN beside its backbone, and beside average pool + linear."""
    return [*inference(), *training_lite()]


if __name__ == "__main__":
    for row in [*measure(), *beside_plain()]:
        print(row)
