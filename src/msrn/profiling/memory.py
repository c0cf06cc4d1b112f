"""What does a computation take, hold and give back? A log of its tensors and operations, by part of the model.

It is meant for torch's fake tensors, which have a shape and no content: then the log tells of any size, on any machine,
and nothing is computed.
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
"""Where the model itself computes, outside its children."""
BACKWARD = "backward"
"""The backward pass is one part: its order follows autograd's graph, not the modules."""


class Event(NamedTuple):
    """Memory that is taken, or given back (``size`` below zero), bytes; and the part that took it."""

    tensor: int
    """Number of the storage; views of a tensor share it."""
    size: int
    part: str


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Logs all tensors made under ``logging`` until they are gone, and counts FLOPs as torch's own counter does.

    A part is a child of the model; one of our operators, where the model itself calls it; ``BETWEEN``; or
    ``BACKWARD``. Log the backward pass by itself: what follows the modules in the forward pass holds on to gradients.

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
        """Log what happens inside."""
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
        """Bytes that are held now, by the part that made them."""
        held: Counter[str] = Counter()
        for event in self.events:
            held[event.part] += event.size
        return held

    def until_peak(self) -> list[Event]:
        """The log up to the moment when most was held; its last event took it there."""
        held, most, when = 0, 0, 0
        for number, event in enumerate(self.events, start=1):
            held += event.size
            if held > most:
                most, when = held, number
        return self.events[:when]

    def numbers(self, tensors: Iterable[Tensor]) -> set[int]:
        """Under which numbers tensors that are alive stand in the log."""
        return {self._alive[_key(tensor)] for tensor in tensors}

    def _part(self, func: Any) -> str:
        follower = self._counter.mod_tracker  # which modules are at work: "MSRN", "MSRN.head", "MSRN.head.hidden"
        if follower.is_bw:
            return BACKWARD
        inside = [name.partition(".")[2] for name in follower.parents if "." in name]
        own = func.name().partition("::")[2] if func.namespace == "msrn" else ""
        return part_name(inside[0] if inside else own)

    def _take(self, tensor: Tensor, part: str) -> None:
        key = _key(tensor)
        if key not in self._weights and key not in self._alive:
            storage = tensor.untyped_storage()
            event = Event(len(self.events), storage.nbytes(), part)
            self._alive[key] = event.tensor
            self.events.append(event)
            weakref.finalize(storage, self._give_back, key, event)

    def _give_back(self, key: int, event: Event) -> None:
        del self._alive[key]
        self.events.append(event._replace(size=-event.size))


def part_name(inside: str) -> str:
    """The part of a module or weight, given its name inside the model; words for people.

    Example:
        >>> part_name("tap_buffers.0.weight"), part_name("")
        ('tap buffers', 'between the parts')
    """
    return inside.partition(".")[0].replace("_", " ") or BETWEEN


def _key(tensor: Tensor) -> int:
    """What all views of a tensor share, and nothing else that is alive."""
    return tensor.untyped_storage()._cdata
