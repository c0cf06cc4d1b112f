"""Which form of a network runs fastest on this machine, and does it still say the same? Measured, not guessed.

Which of the ``forms`` is fastest depends on network, processor and batch. So all are run in turns, and the fastest is
taken of those whose probabilities agree with the network as loaded.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from msrn.inference.variants import Form, forms
from msrn.models.classifier import Tagger

__all__ = ["BOUNDS", "Measured", "Optimization", "optimize"]

BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 0.02}
"""Largest change of a probability that a form may make: another order of sums, or numbers of 8 significant bits."""

HEADROOM = 2
"""A form may use up one part in this many of its bound on the pictures checked; the rest is for pictures to come."""

MARGIN = 0.03
"""Share of its time that a form must save to replace the network as loaded; less is within the noise of a clock."""

CHECKED, TIMED_ON_CPU = 16, 8
"""Pictures that forms are compared on; pictures that they are timed on at most, on a CPU."""

ROUNDS, SECONDS = (3, 15), 2.0
"""Least and most times that every form is timed; after the least, no new round is begun past so many seconds."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found about a form.

    ``change`` is the most that a probability could differ from the network as loaded, ``seconds`` the median time for
    one picture. None where it was not measured; then ``refused`` says why.
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
    """The form that was chosen, and everything that was measured: the network as loaded first, then the others."""

    form: Form
    measured: tuple[Measured, ...]
    batch: int
    """Pictures at a time that were timed."""

    @property
    def speedup(self) -> float:
        """How many times as fast as loaded."""
        seconds = {each.name: each.seconds or 0.0 for each in self.measured}
        return seconds[self.measured[0].name] / seconds[self.form.name]

    def __str__(self) -> str:
        chosen = f"chosen: {self.form.name}; {self.speedup:.2f} times as fast as loaded, {self.batch} at a time"
        rows = [f"{'form':{_WIDTH}}{'a picture':>12}{'change':>12}", *map(str, self.measured)]
        return "\n".join([chosen, *(f"  {row}" for row in rows)])


def optimize(model: Tagger, image: Tensor) -> Optimization:
    """Choose the form of a model that runs fastest on its device, by running every form.

    Forms are compared on sixteen pictures: the first of those given and, if these are fewer, the same turned, mirrored
    and enlarged. Random numbers would not do: they show a quarter of the change. What counts as the change of a form is
    a quarter of the largest change of a logit. The sigmoid is nowhere steeper than that, so the labels that are far
    from these pictures, whose probabilities nothing moves, count in full. A form that uses up more than half of its
    bound is refused. It takes the time of 100 to 250 pictures, or a few seconds.

    Args:
        model: in evaluation mode, on its device, in float32. It stays as it is, and shares with the chosen form the
            tensors that did not have to change.
        image: ``(B, 3, S, S)``, preprocessed pictures, on the device. B is the batch that is timed: on a CPU at most
            the first eight, where the time for one picture hardly changes beyond.
    """
    examples = _examples(image)
    timed = image[:TIMED_ON_CPU] if image.device.type == "cpu" else image
    candidates = forms(model, image)
    expected = _logits(candidates[0], examples)
    checked = [_check(form, examples, expected) for form in candidates]
    fit = [form for form, each in zip(candidates, checked, strict=True) if not each.refused]
    seconds = dict(zip((form.name for form in fit), _seconds(fit, timed), strict=True))
    fastest = min(fit, key=lambda form: seconds[form.name])
    if seconds[fastest.name] > (1 - MARGIN) * seconds[candidates[0].name]:
        fastest = candidates[0]
    measured = tuple(Measured(each.name, each.change, seconds.get(each.name), each.refused) for each in checked)
    return Optimization(fastest, measured, len(timed))


def _examples(image: Tensor) -> Tensor:
    """``CHECKED`` pictures: those given, then mirrored, turned, and the same of their enlarged centres."""
    quarter = image.shape[-1] // 4
    centre = image[..., quarter : -quarter or None, quarter : -quarter or None]
    close = F.interpolate(centre, size=image.shape[-2:], mode="bilinear")
    return torch.cat([
        seen
        for pictures in (image, close)
        for turns in range(4)
        for seen in (pictures.rot90(turns, (-2, -1)), pictures.rot90(turns, (-2, -1)).flip(-1))
    ])[:CHECKED]  # fmt: skip


@torch.inference_mode()
def _logits(form: Form, image: Tensor) -> Tensor:
    return form(image).logits.double().cpu()


def _check(form: Form, examples: Tensor, expected: Tensor) -> Measured:
    allowed = BOUNDS[form.dtype] / HEADROOM
    try:
        change = float((_logits(form, examples) - expected).abs().max() / 4)
    except RuntimeError as error:  # torch's word for an operation that a processor or a layout does not have
        return Measured(form.name, None, None, f"it does not run ({str(error).splitlines()[0]})")
    return Measured(form.name, change, None, "" if change <= allowed else f"over {allowed:g}")


def _seconds(candidates: Sequence[Form], image: Tensor) -> list[float]:
    """Median seconds for one picture of each form, run in turns: whatever slows the machine slows all alike."""
    for form in candidates:
        _logits(form, image)  # libraries prepare themselves for every new shape
    least, most = ROUNDS
    taken: list[list[float]] = [[] for _ in candidates]
    begin = time.perf_counter()
    while len(taken[0]) < least or (len(taken[0]) < most and time.perf_counter() - begin < SECONDS):
        for form, times in zip(candidates, taken, strict=True):
            start = time.perf_counter()
            _logits(form, image)  # with the numbers fetched from the device, so it has finished
            times.append((time.perf_counter() - start) / len(image))
    return [statistics.median(times) for times in taken]
