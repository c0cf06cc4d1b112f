"""Choose the fastest variant of a network on this machine by running all of them.

Which variant is fastest depends on network, processor and batch. All run in turn; the choice is the fastest of those
whose probabilities agree with those of the network as loaded.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from msrn.inference.variants import Variant, variants
from msrn.models.classifier import MultiLabelClassifier

__all__ = ["BOUNDS", "Measured", "Optimization", "optimize"]

BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 0.02}
"""Largest change of a probability that a variant may cause, by another order of sums or by 8 significant bits."""

HEADROOM = 2
"""On the images checked a variant may change a probability by its bound over this; the rest is for later images."""

MARGIN = 0.03
"""Share of the time that a variant must save to replace the network as loaded; less is within the timing noise."""

CHECKED, TIMED_ON_CPU = 16, 8
"""Number of images on which variants are compared; maximum number on which they are timed on a CPU."""

ROUNDS, SECONDS = (3, 15), 2.0
"""Minimum and maximum rounds of timing; past so many seconds, no round after the minimum is begun."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a variant.

    ``change`` is the largest possible difference of a probability from that of the network as loaded, ``seconds`` the
    median time for one image. They are None where they were not measured; ``refused`` is then the reason.
    """

    name: str
    change: float | None
    seconds: float | None
    refused: str = ""

    def __str__(self) -> str:
        time = "-" if self.seconds is None else f"{1e3 * self.seconds:.2f} ms"
        change = "-" if self.change is None else f"{self.change:.1e}"
        return f"{self.name:{_WIDTH}}{time:>12}{change:>12}" + (f"   refused: {self.refused}" if self.refused else "")


_WIDTH = 64


@dataclass(frozen=True, slots=True)
class Optimization:
    """The variant that was chosen, and everything that was measured: the network as loaded first, then the others."""

    variant: Variant
    measured: tuple[Measured, ...]
    batch: int
    """Images at a time that were timed."""

    @property
    def speedup(self) -> float:
        """Time of the network as loaded over that of the chosen variant."""
        seconds = {each.name: each.seconds or 0.0 for each in self.measured}
        return seconds[self.measured[0].name] / seconds[self.variant.name]

    def __str__(self) -> str:
        chosen = f"chosen: {self.variant.name}; {self.speedup:.2f} times as fast as loaded, {self.batch} at a time"
        rows = [f"{'variant':{_WIDTH}}{'an image':>12}{'change':>12}", *map(str, self.measured)]
        return "\n".join([chosen, *(f"  {row}" for row in rows)])


def optimize(model: MultiLabelClassifier, image: Tensor) -> Optimization:
    """Choose the variant of a model that runs fastest on its device, by running every variant.

    Variants are compared on sixteen images: the first of those given and, if there are fewer, rotated, mirrored and
    enlarged copies of them. Random numbers would show only a quarter of the change. The change of a variant is a
    quarter of the largest change of a logit, because the slope of the sigmoid is at most 1/4; so labels whose
    probability is near 0, and hardly changes, count in full. A variant that uses more than half of its bound is
    refused. The choice takes as long as 100 to 250 images, or a few seconds.

    Args:
        model: in evaluation mode, on its device, in float32. It is not changed; the chosen variant shares its unchanged
            tensors.
        image: ``(B, 3, S, S)``, preprocessed images, on the device. B is the batch size that is timed: on a CPU at
            most the first eight, beyond which the time per image hardly changes.
    """
    examples = _examples(image)
    timed = image[:TIMED_ON_CPU] if image.device.type == "cpu" else image
    candidates = variants(model, image)
    expected = _logits(candidates[0], examples)
    checked = [_check(variant, examples, expected) for variant in candidates]
    fit = [variant for variant, each in zip(candidates, checked, strict=True) if not each.refused]
    seconds = dict(zip((variant.name for variant in fit), _seconds(fit, timed), strict=True))
    fastest = min(fit, key=lambda variant: seconds[variant.name])
    if seconds[fastest.name] > (1 - MARGIN) * seconds[candidates[0].name]:
        fastest = candidates[0]
    measured = tuple(Measured(each.name, each.change, seconds.get(each.name), each.refused) for each in checked)
    return Optimization(fastest, measured, len(timed))


def _examples(image: Tensor) -> Tensor:
    """``CHECKED`` images: those given, then mirrored and rotated copies, then the same of their enlarged centres."""
    quarter = image.shape[-1] // 4
    centre = image[..., quarter : -quarter or None, quarter : -quarter or None]
    close = F.interpolate(centre, size=image.shape[-2:], mode="bilinear")
    return torch.cat([
        seen
        for images in (image, close)
        for turns in range(4)
        for seen in (images.rot90(turns, (-2, -1)), images.rot90(turns, (-2, -1)).flip(-1))
    ])[:CHECKED]  # fmt: skip


@torch.inference_mode()
def _logits(variant: Variant, image: Tensor) -> Tensor:
    return variant(image).logits.double().cpu()


def _check(variant: Variant, examples: Tensor, expected: Tensor) -> Measured:
    allowed = BOUNDS[variant.dtype] / HEADROOM
    try:
        change = float((_logits(variant, examples) - expected).abs().max() / 4)
    except RuntimeError as error:  # an operation that a processor or a layout does not have
        return Measured(variant.name, None, None, f"it does not run ({str(error).splitlines()[0]})")
    return Measured(variant.name, change, None, "" if change <= allowed else f"over {allowed:g}")


def _seconds(candidates: Sequence[Variant], image: Tensor) -> list[float]:
    """Median seconds per image of each variant, run in turn: whatever slows the machine slows all of them alike."""
    for variant in candidates:
        _logits(variant, image)  # libraries prepare themselves for every new shape
    min_rounds, max_rounds = ROUNDS
    taken: list[list[float]] = [[] for _ in candidates]
    begin = time.perf_counter()
    while len(taken[0]) < min_rounds or (len(taken[0]) < max_rounds and time.perf_counter() - begin < SECONDS):
        for variant, times in zip(candidates, taken, strict=True):
            start = time.perf_counter()
            _logits(variant, image)  # fetches the numbers, so the device has finished
            times.append((time.perf_counter() - start) / len(image))
    return [statistics.median(times) for times in taken]
