"""A log of the tensors and FLOPs of a computation, by part of the model.

It is meant for torch's fake tensors, which have a shape and no content: any size can be logged on any machine, because
nothing is computed.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["BACKWARD", "BETWEEN", "Event", "Ledger", "part_name"]

BETWEEN = "between the parts"
"""What the model or its head computes itself, outside their children."""
BACKWARD = "backward"
"""The whole backward pass is one part: its order follows autograd's graph, not the modules."""


class Event(NamedTuple):
    """Bytes that a part allocated, or that were freed (``size`` below zero)."""

    tensor: int
    """Number of the storage, which all views of a tensor share."""
    size: int
    part: str


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Log every tensor made under ``logging`` until it is freed, and count FLOPs as torch's own counter does.

    A part is the backbone, a child of the head, one of our operators where the head itself calls it, ``BETWEEN`` or
    ``BACKWARD``. Log the backward pass in a block of its own: torch's module tracker, which runs in the forward pass,
    keeps references to gradients.

    Args:
        model: its parameters and buffers are not logged.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[Event] = []
        self.flops: Counter[str] = Counter()
        self._counter = FlopCounterMode(display=False)
        self._weights = {_key(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._alive: dict[int, int] = {}

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Log the operations inside."""
        with self._counter, self:
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._counter.get_total_flops()
        made = func(*args, **(kwargs or {}))
        part = self._part(func)
        self.flops[part] += self._counter.get_total_flops() - before
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self._take(value, part)
        return made

    def held(self) -> Counter[str]:
        """Bytes that are held now, by the part that allocated them."""
        held: Counter[str] = Counter()
        for event in self.events:
            held[event.part] += event.size
        return held

    def until_peak(self) -> list[Event]:
        """The log up to the peak of the bytes held; its last event is the allocation that reached it."""
        held, peak, end = 0, 0, 0
        for number, event in enumerate(self.events, start=1):
            held += event.size
            if held > peak:
                peak, end = held, number
        return self.events[:end]

    def numbers(self, tensors: Iterable[Tensor]) -> set[int]:
        """The numbers in the log of tensors that are alive."""
        return {self._alive[_key(tensor)] for tensor in tensors}

    def _part(self, func: Any) -> str:
        tracker = self._counter.mod_tracker  # the modules that are running: "Model", "Model.head", "Model.head.output"
        if tracker.is_bw:
            return BACKWARD
        inside = [name.partition(".")[2] for name in tracker.parents if "." in name]
        parts = [name for name in inside if name != "head"]
        own = func.name().partition("::")[2] if func.namespace == "msrn" else ""
        return part_name(parts[0] if parts else own)

    def _take(self, tensor: Tensor, part: str) -> None:
        key = _key(tensor)
        if key not in self._weights and key not in self._alive:
            storage = tensor.untyped_storage()
            event = Event(len(self.events), storage.nbytes(), part)
            self._alive[key] = event.tensor
            self.events.append(event)
            weakref.finalize(storage, self._free, key, event)

    def _free(self, key: int, event: Event) -> None:
        del self._alive[key]
        self.events.append(event._replace(size=-event.size))


def part_name(inside: str) -> str:
    """The part that a module or weight belongs to, by its name inside the model.

    Example:
        >>> part_name("head.extra_convs.0.weight"), part_name("backbone.body.conv1"), part_name("")
        ('extra convs', 'backbone', 'between the parts')
    """
    first, _, rest = inside.partition(".")
    return (rest.partition(".")[0] if first == "head" else first).replace("_", " ") or BETWEEN


def _key(tensor: Tensor) -> int:
    """The identity of a tensor's storage, which all of its views share."""
    return tensor.untyped_storage()._cdata
