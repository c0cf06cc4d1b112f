"""Parameters, FLOPs and memory of a network, by part, without computing anything.

The network is built without weights and run on torch's fake tensors, which have a shape and no content. This counts
what torch would compute and hold, for any size, in seconds and in little memory.

Memory is that of tensors. Workspaces of libraries (of a convolution, of an optimizer step) and the program itself (a
few hundred MB, more with CUDA) are not included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from msrn import registry
from msrn.config import Settings
from msrn.losses.base import LabelCounts, Loss
from msrn.models.classifier import MultiLabelClassifier, build_without_weights, memory_layout
from msrn.models.heads.base import LabelInputs
from msrn.profiling.memory import BETWEEN, Ledger, part_name

__all__ = ["Part", "Use", "cost_of"]

MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the model. ``once`` is the cost of a step for any number of images; ``per_image`` is added for each."""

    name: str
    parameters: int
    trainable: int
    """Parameters that ``model.freeze`` leaves free."""
    weight_bytes: int
    """Parameters and buffers."""
    flops_per_image: int
    """Of the forward pass. A multiply-add counts as two; only products and our operators are counted."""
    flops_once: int
    saved_bytes_per_image: int
    """Tensors that the part made and that training holds until the backward pass, whichever part reads them."""
    saved_bytes_once: int


@dataclass(frozen=True, slots=True)
class Use:
    """What one process needs for a number of images at a time. Memory is in bytes, at its peak."""

    name: str
    images: int
    flops: int
    """Of the forward pass or, in training, of forward and backward."""
    peak_in: str
    """The part that reaches the peak: one of the model's, or ``backward``."""
    weights: int
    activations: int
    """Images, and what is computed from them and the weights."""
    gradients: int = 0
    optimizer_state: int = 0
    ema: int = 0
    memory: int = field(init=False)
    """The sum of the five fields before."""

    def __post_init__(self) -> None:
        held = self.weights + self.activations + self.gradients + self.optimizer_state + self.ema
        object.__setattr__(self, "memory", held)


def cost_of(settings: Settings, *, num_labels: int, embedding_width: int) -> tuple[tuple[Part, ...], tuple[Use, ...]]:
    """The model's parts in the order in which they run, and what prediction and training need.

    Prediction: one image and ``data.eval_batch_size`` images, label semantics precomputed, in float32. Training: the
    images of one process and micro-batch, with ``model.freeze``, ``run.precision`` and the optimizer's state.

    Args:
        settings: the whole tree.
        num_labels: L.
        embedding_width: E.

    Raises:
        ConfigError, ShapeError: as ``create_model`` and the model itself.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    model = _build(settings, num_labels, embedding_width, fake)
    with fake, torch.enable_grad():  # whatever the caller's mode: a training step is looked at
        of_labels = LabelCounts(torch.zeros(num_labels), torch.zeros(num_labels))
        loss = registry.load("loss", settings.loss.name)(settings.loss, counts=of_labels)
        parts, training = _parts(model, loss, settings), _training(model, loss, settings)
        model.eval().requires_grad_(False)
        model.precompute()
        counts = dict.fromkeys((1, settings.data.eval_batch_size))
        return parts, (*(_predicting(model, settings, count) for count in counts), training)


def _build(settings: Settings, num_labels: int, embedding_width: int, fake: FakeTensorMode) -> MultiLabelClassifier:
    """The model as training has it, with fake tensors for weights.

    It is built on the meta device, where networks may read the few numbers that they compute for themselves, and then
    moved to a fake CPU, where it runs as on a real one (autocast, for example, does not support the meta device).
    """
    names = tuple(str(number) for number in range(num_labels))
    with torch.device("meta"):
        labels = LabelInputs(names, torch.empty(num_labels, embedding_width), torch.empty(num_labels, num_labels))
        model = build_without_weights(settings.model, labels, image_size=settings.data.image_size)
        model = model.to(memory_format=memory_layout(model))
    with fake:
        model.to_empty(device="cpu")
    model.backbone.freeze(settings.model.freeze)
    model.train()
    model.backbone.hold_norms(everywhere=settings.model.freeze_norm)
    return model


def _parts(model: MultiLabelClassifier, loss: Loss, settings: Settings) -> tuple[Part, ...]:
    """In the order in which they run. Two numbers of images separate the cost per image from the cost of a step."""
    counts = (2, 3)  # not 1, a special case: strides of dimensions of size 1, batch norm over one value
    passes = []
    for count in counts:
        ledger = Ledger(model)
        with ledger.logging():
            images = _images(settings, count)
            total = _minimised(model, loss, settings, images)  # keeps alive what the backward pass needs
        passes.append((ledger.flops, ledger.held()))
        del images, total
    weights: dict[str, list[Tensor]] = {name: [] for name in passes[0][0]}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        weights.setdefault(part_name(name if "." in name.removeprefix("head.") else ""), []).append(tensor)
    weights[BETWEEN] = weights.pop(BETWEEN, [])  # last
    parts = []
    for name, tensors in weights.items():
        parameters = [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]
        numbers = [_numel(parameters), _numel(filter(_is_free, parameters)), _bytes(tensors)]
        for fewer, more in zip(*passes, strict=True):
            per_image = more[name] - fewer[name]
            numbers += [per_image, fewer[name] - counts[0] * per_image]
        if any(numbers):
            parts.append(Part(name, *numbers))
    return tuple(parts)


def _predicting(model: MultiLabelClassifier, settings: Settings, images: int) -> Use:
    ledger = Ledger(model)
    with ledger.logging(), torch.no_grad():
        model(_images(settings, images))
    peak = ledger.until_peak()
    return Use(
        "predict",
        images,
        flops=ledger.flops.total(),
        peak_in=peak[-1].part,
        weights=_bytes(_tensors(model)),
        activations=sum(event.size for event in peak),
    )


def _training(model: MultiLabelClassifier, loss: Loss, settings: Settings) -> Use:
    """A step of one process, as ``engine.trainer`` takes it."""
    passes = settings.optim.accumulate
    count = settings.data.batch_size // (passes * settings.run.devices)
    ledger = Ledger(model)
    for _ in range(min(2, passes)):  # the second one runs beside gradients, as all later ones do
        with ledger.logging():
            images = _images(settings, count)
            total = _minimised(model, loss, settings, images)
        with ledger.logging():
            total.backward()  # type: ignore[no-untyped-call]
        del images, total
    free = list(filter(_is_free, model.parameters()))
    gradients = ledger.numbers(parameter.grad for parameter in free if parameter.grad is not None)
    peak = ledger.until_peak()
    state = 2 if settings.optim.name == "adamw" else int(settings.optim.momentum > 0)  # numbers per weight
    use = Use(
        "train",
        count,
        flops=ledger.flops.total() // min(2, passes),
        peak_in=peak[-1].part,
        weights=_bytes(_tensors(model)),
        activations=sum(event.size for event in peak if event.tensor not in gradients),
        gradients=sum(event.size for event in peak if event.tensor in gradients),
        optimizer_state=state * _bytes(free),
        ema=_bytes(_tensors(model)) if settings.optim.ema else 0,
    )
    model.zero_grad()
    return use


def _images(settings: Settings, count: int) -> Tensor:
    side = settings.data.image_size
    return torch.empty((count, 3, side, side), memory_format=torch.channels_last)


def _minimised(model: MultiLabelClassifier, loss: Loss, settings: Settings, images: Tensor) -> Tensor:
    dtype = MIXED.get(settings.run.precision)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        output = model(images)
    target = torch.empty_like(output.logits, dtype=torch.float32)
    total: Tensor = loss(output.logits, target) + sum(output.aux_losses.values())
    return total


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _is_free(parameter: Tensor) -> bool:
    return parameter.requires_grad


def _numel(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
