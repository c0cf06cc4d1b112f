"""What does a network cost, part by part, and what does a step with it need? Worked out without computing.

The network is built without weights and run on torch's fake tensors, which have a shape and no content. So the numbers
are those of what torch would do and hold, for any size, in seconds and in next to no memory.

Memory is that of tensors. What a library takes for itself while it works, such as the workspace of a convolution or of
an optimiser's step, and the program around (some hundred MB, more with CUDA) come on top.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from msrn.config import Settings
from msrn.engine.optim import freeze_backbone, hold_norms
from msrn.losses.soft_margin import soft_margin
from msrn.models import Tagger, build_model
from msrn.profiling.memory import BETWEEN, Ledger, part_name

__all__ = ["Part", "Use", "cost_of"]

MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the model. ``once`` is what a step costs however many images it has; the rest grows with them."""

    name: str
    parameters: int
    trainable: int
    """Parameters that ``model.freeze`` leaves free."""
    weight_bytes: int
    """Parameters and buffers."""
    flops_per_image: int
    """Of the forward pass; a multiply-add counts as two, and only products (and our operators) are counted."""
    flops_once: int
    saved_bytes_per_image: int
    """Tensors the part made that training holds until the backward pass; a tensor shared by parts is its maker's."""
    saved_bytes_once: int


@dataclass(frozen=True, slots=True)
class Use:
    """What one process needs for a number of images at a time; bytes, at the moment when most is held."""

    name: str
    images: int
    flops: int
    """Of the forward pass or, in training, of forward and backward."""
    peak_in: str
    """Which part takes most: one of the model's, or ``backward``."""
    weights: int
    activations: int
    """Images and whatever is made from them and the weights."""
    gradients: int = 0
    optimiser_state: int = 0
    weight_average: int = 0
    memory: int = field(init=False)
    """The sum of the five."""

    def __post_init__(self) -> None:
        held = self.weights + self.activations + self.gradients + self.optimiser_state + self.weight_average
        object.__setattr__(self, "memory", held)


def cost_of(settings: Settings, *, num_labels: int, vector_width: int) -> tuple[tuple[Part, ...], tuple[Use, ...]]:
    """The model's parts in the order in which they run, and what prediction and training need.

    Prediction: 1 image and ``data.eval_batch_size``, folded, in float32. Training: what one process has at a time of
    ``data.batch_size``, with ``model.freeze``, ``run.precision`` and the optimiser's state.

    Args:
        settings: the whole tree.
        num_labels: L.
        vector_width: E.

    Raises:
        ConfigError, ShapeError: as ``build_model`` and the model itself.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    model = _build(settings, num_labels, vector_width, fake)
    with fake:
        parts, training = _parts(model, settings), _training(model, settings)
        model.eval().requires_grad_(False)
        model.fold()
        counts = dict.fromkeys((1, settings.data.eval_batch_size))
        return parts, (*(_predicting(model, settings, count) for count in counts), training)


def _build(settings: Settings, num_labels: int, vector_width: int, fake: FakeTensorMode) -> Tagger:
    """The model as training has it, with fake tensors for weights.

    Built on the meta device, where networks may read the few numbers they compute for themselves; then moved to a fake
    CPU, where they can be run as they would be on a real one (autocast, for one, knows no meta device).
    """
    stripped = settings.model.model_copy(update={"weights": "none", "checkpoint": ""})
    with torch.device("meta"):
        vectors, adjacency = torch.empty(num_labels, vector_width), torch.empty(num_labels, num_labels)
        model = build_model(
            stripped, label_vectors=vectors, adjacency=adjacency, image_size=settings.data.image_size
        ).to(memory_format=torch.channels_last)
    with fake:
        model.to_empty(device="cpu")
    freeze_backbone(model.backbone, settings.model.freeze)
    model.train()
    hold_norms(model.backbone, everywhere=settings.model.freeze_norm)
    return model


def _parts(model: Tagger, settings: Settings) -> tuple[Part, ...]:
    """In the order in which they run. Two numbers of images tell what grows with them from what does not."""
    counts = (2, 3)  # one image is a special case: strides of dimensions of size 1, batch norm over one value
    passes = []
    for count in counts:
        ledger = Ledger(model)
        with ledger.logging():
            images = _images(settings, count)
            loss = _loss(model, settings, images)  # holds what the backward pass needs
        passes.append((ledger.flops, ledger.held()))
        del images, loss
    weights: dict[str, list[Tensor]] = {name: [] for name in passes[0][0]}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        weights.setdefault(part_name(name if "." in name else ""), []).append(tensor)
    weights[BETWEEN] = weights.pop(BETWEEN, [])  # last
    parts = []
    for name, tensors in weights.items():
        parameters = [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]
        numbers = [_numel(parameters), _numel(filter(_is_free, parameters)), _bytes(tensors)]
        for few, more in zip(*passes, strict=True):
            per_image = more[name] - few[name]
            numbers += [per_image, few[name] - counts[0] * per_image]
        if any(numbers):
            parts.append(Part(name, *numbers))
    return tuple(parts)


def _predicting(model: Tagger, settings: Settings, images: int) -> Use:
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


def _training(model: Tagger, settings: Settings) -> Use:
    """A step of one process, as ``engine.trainer`` takes it."""
    passes = settings.optim.accumulate
    count = settings.data.batch_size // (passes * settings.run.devices)
    ledger = Ledger(model)
    for _ in range(min(2, passes)):  # the second finds gradients there, as all later ones do
        with ledger.logging():
            images = _images(settings, count)
            loss = _loss(model, settings, images)
        with ledger.logging():
            loss.backward()  # type: ignore[no-untyped-call]
        del images, loss
    free = list(filter(_is_free, model.parameters()))
    gradients = ledger.numbers(parameter.grad for parameter in free if parameter.grad is not None)
    peak = ledger.until_peak()
    state = 2 if settings.optim.name == "adamw" else int(settings.optim.momentum > 0)  # numbers kept for each weight
    use = Use(
        "train",
        count,
        flops=ledger.flops.total() // min(2, passes),
        peak_in=peak[-1].part,
        weights=_bytes(_tensors(model)),
        activations=sum(event.size for event in peak if event.tensor not in gradients),
        gradients=sum(event.size for event in peak if event.tensor in gradients),
        optimiser_state=state * _bytes(free),
        weight_average=_bytes(_tensors(model)) if settings.optim.ema else 0,
    )
    model.zero_grad()
    return use


def _images(settings: Settings, count: int) -> Tensor:
    side = settings.data.image_size
    return torch.empty((count, 3, side, side), memory_format=torch.channels_last)


def _loss(model: Tagger, settings: Settings, images: Tensor) -> Tensor:
    dtype = MIXED.get(settings.run.precision)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        output = model(images)
    target = torch.empty_like(output.logits, dtype=torch.float32)
    return soft_margin(output.logits, target) + sum(output.aux.values())


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _is_free(parameter: Tensor) -> bool:
    return parameter.requires_grad


def _numel(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
