"""Try one timm network as a backbone: hold it to the backbone's contract, then train, save, load and predict.

Everything goes the way of ``msrn train`` and ``msrn predict``: settings, trainer, run folder, bundle, predictor.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from msrn.config import Settings, load_settings
from msrn.engine.trainer import Trainer
from msrn.engine.unused import weights_behind
from msrn.errors import ConfigError
from msrn.inference.predictor import Predictor
from msrn.inference.variants import variants
from msrn.models.backbone import Backbone
from msrn.models.classifier import MultiLabelClassifier, memory_layout
from msrn.models.heads.average_pool import AveragePool, Options
from msrn.models.heads.base import LabelInputs

LABELS = ("boat", "cat", "dog")
IMAGES = 2
SAME = 1e-4
"""Largest difference of scores, and of fused logits over the largest logit."""


class Fault(Exception):  # noqa: N818 - what is wrong with a network, not an error of the program
    """The network breaks a promise."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one network at one image size."""

    size: int
    works: bool
    seconds: float = 0.0
    """Processor time of a training step over two images."""
    refused: str = ""
    """Our error."""
    fits: tuple[int, ...] = ()
    """Sizes that the error says fit."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What a backbone offers at its native size."""

    parameters: int
    """Of the backbone, without timm's classification layer."""
    stages: int
    maps: tuple[tuple[int, int, int], ...]
    """Channels, stride and side of the last three."""
    parts: int
    layout: str
    fused: int
    """Batch norms that are fused for prediction."""
    notes: list[str] = field(default_factory=list)


def examine(name: str, size: int) -> Contract:
    """Maps, weights and parts of the backbone; fused and bfloat16 forms of a classifier.

    Raises:
        Fault: a promise is broken. Others: as they come, which is a fault too.
    """
    torch.manual_seed(0)
    fixed = {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    with torch.device("meta"):
        info = timm.create_model(name, features_only=True, pretrained=False, **fixed).feature_info.info
    stages = [place for place, stage in enumerate(info) if stage["module"]]  # some list one that they do not have
    classifier = timm.create_model(name, pretrained=False, **fixed)
    torch.manual_seed(0)  # so that the backbone's weights are drawn as the classifier's
    backbone = Backbone(name, stages=stages, weights="none", image_size=size)
    require_same_weights(backbone, classifier)
    del classifier
    maps = backbone.train()(torch.randn(IMAGES, 3, size, size))
    notes, shapes = [], []
    for features, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        if features.ndim != 4 or features.shape[:2] != (IMAGES, channels):
            raise Fault(f"expected a map ({IMAGES}, {channels}, H, W), got {tuple(features.shape)}")
        height, width = features.shape[2:]
        if height != width or not size // stride <= height <= -(-size // stride):
            notes.append(f"a map of {height} x {width} where the stride is said to be {stride}")
        shapes.append((channels, stride, height))
    notes += require_parts(backbone, maps)
    del maps
    parts, parameters = len(backbone.parts()), sum(map(Tensor.numel, backbone.parameters()))
    layout, fused = require_same_forms(backbone, size)
    return Contract(parameters, len(info), tuple(shapes[-3:]), parts, layout, fused, notes)


def require_same_weights(backbone: Backbone, classifier: nn.Module) -> None:
    """Every tensor of the backbone is one of the classifier's."""
    have = {_digest(value) for value in classifier.state_dict().values()}
    if alien := [key for key, value in backbone.body.state_dict().items() if _digest(value) not in have]:
        raise Fault(f"{len(alien)} tensors are not the classifier's: {', '.join(alien[:3])}")


def _digest(value: Tensor) -> tuple[Any, ...]:
    flat = value.detach().flatten().double().nan_to_num()  # bounds of quantisers are infinite
    return value.numel(), *(
        float(each) for each in (flat.sum(), flat.square().sum(), flat @ torch.arange(len(flat)).double())
    )


def require_parts(backbone: Backbone, maps: Sequence[Tensor]) -> list[str]:
    """The parts that ``freeze`` holds fixed, compared with what autograd says each map depends on; notes."""
    notes = []
    groups = backbone.parts()
    place = {weight: number for number, group in enumerate(groups) for weight in group}
    if len(place) != len(list(backbone.parameters())):
        raise Fault("some weights are in no part")
    last = [max((place[weight] for weight in weights_behind(features)), default=0) for features in maps]
    if last[0] > 1 or max(last) != len(groups) - 1 or len(groups) < 2:
        raise Fault(f"the maps end in parts {last} of {len(groups)}")
    if last != sorted(last):
        notes.append("maps of several branches")
    for parts in [*range(1, len(groups)), -1]:
        backbone.freeze(parts)
        held = [not any(weight.requires_grad for weight in group) for group in groups]
        free = [all(weight.requires_grad for weight in group) for group in groups]
        expected = [parts < 0 or number < parts for number in range(len(groups))]
        if held != expected or free != [not each for each in expected]:
            raise Fault(f"freeze {parts} holds {held}")
    return notes


def require_same_forms(backbone: Backbone, size: int) -> tuple[str, int]:
    """Fused forms give the logits of the network as it is, bfloat16 gives finite ones."""
    head = AveragePool(Options(), channels=backbone.channels, labels=LabelInputs(LABELS))
    model = MultiLabelClassifier(backbone, head)
    image = torch.randn(IMAGES, 3, size, size)
    fused = 0
    with torch.no_grad():
        model.train()(image)  # norms get statistics
        expected = model.eval()(image).logits
        with torch.autocast("cpu", torch.bfloat16):
            if not bool(model(image).logits.isfinite().all()):
                raise Fault("logits under bfloat16 autocast are not finite")
        for variant in variants(model, image[:1]):
            got = variant(image).logits
            difference = float((got - expected).abs().max() / expected.abs().max().clamp_min(1))
            if not difference <= (SAME if variant.dtype is torch.float32 else float("inf")):
                raise Fault(f"{variant.name}: logits differ by {difference:.1e}")
            if norms := re.match(r"(\d+) batch norms fused", variant.name):
                fused = int(norms[1])
    layout = "first" if memory_layout(model) is torch.contiguous_format else "last"
    return layout, fused


def train_and_predict(name: str, size: int, count: int, place: Path, head: str = "msrn") -> Outcome:
    """Train a step, keep the bundle, load it and predict; the scores must be those of the trained network.

    Args:
        name: of the network.
        size: of the images.
        count: stages that the network has.
        place: a folder for images and runs.
        head: ``msrn`` or ``average_pool``.

    Raises:
        Fault: a promise is broken. Others: as they come, which is a fault too.
    """
    images, run = place / "images", place / f"{head}-{size}"
    write_images(images)
    settings = settings_for(name, size, count, images, run, head)
    try:
        trainer = Trainer(settings, resume=False)
    except ConfigError as error:
        if run.exists():
            raise Fault(f"refused after files were written: {error}") from error
        named = re.search(r"sizes that fit: ([\d, ]+)", error.hint)
        fits = tuple(int(each) for each in named[1].split(",")) if named else ()
        return Outcome(size, False, refused=f"{error.message}; {error.hint}", fits=fits)
    net, optimizer = trainer.learner.net, trainer.learner.optimizer
    for key, value in net.named_parameters():
        if value.ndim == 4 and not value.is_contiguous(memory_format=memory_layout(net)):
            raise Fault(f"{key} does not lie in memory as {memory_layout(net)}")
    never, began = threading.Event(), time.process_time()
    trainer.train_epoch(0, never)
    seconds = time.process_time() - began
    if broken := [key for key, value in net.state_dict().items() if not bool(value.isfinite().all())]:
        raise Fault(f"not finite after a step: {', '.join(broken[:3])}")
    trained = sum(weight.requires_grad for weight in net.parameters())
    if len(optimizer.state) != trained:
        raise Fault(f"{len(optimizer.state)} of {trained} trained tensors got a gradient")
    trainer.evaluate_epoch(0, never)
    trainer.save()
    scores = trainer.score(trainer.setup.train, None)
    trainer.finish()
    predictor = Predictor.load(run)
    paths = [trainer.setup.train.path(number) for number in range(IMAGES)]
    predicted = [[each[label] for label in predictor.labels] for each in predictor.predict(paths)]
    difference = float(np.abs(np.array(predicted) - scores).max())
    if not difference <= SAME:
        raise Fault(f"the loaded predictor's scores differ by {difference:.1e}")
    return Outcome(size, True, seconds=round(seconds, 2))


def settings_for(name: str, size: int, count: int, images: Path, run: Path, head: str) -> Settings:
    """A run of one step over all images, on the last three maps."""
    options: dict[str, Any] = {"name": head}
    maps = min(count, 3)
    if head == "msrn":
        options |= {"output_layer": "per_label", "width": 16, "group_ratio": 0.5, "extra_convs": (False,) * maps}
        options |= {"pools": (2, 1, 1)[:maps]}
    data = {"root": str(images), "train": "all.csv", "val": "all.csv", "image_size": size, "augment": "none"}
    return load_settings(
        {
            "data": data | {"batch_size": IMAGES, "eval_batch_size": IMAGES, "workers": 0},
            "labels": {"embeddings": "random"},
            "model": {"backbone": name, "weights": "none", "stages": tuple(range(-maps, 0)), "head": options},
            "optim": {"name": "adamw", "lr": 1e-4, "schedule": "constant", "epochs": 1},
            "run": {"folder": str(run), "device": "cpu"},
        }
    )


def write_images(folder: Path) -> None:
    """Images with labels, as a table: ``all.csv``."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    lines = ["image," + ",".join(LABELS)]
    for number in range(IMAGES):
        coarse = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{number % 2},{1 - number % 2},{number % 2}")
    (folder / "all.csv").write_text("\n".join(lines) + "\n")
