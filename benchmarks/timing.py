"""Timing and memory of functions, side by side in one process.

Functions run in turn after a warm-up; medians and ratios are kept. Ratios of functions that ran in turn hold on a
machine whose speed drifts; single times do not. Every second round runs in reverse order, because each function leaves
caches and memory in another state.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of several runs."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.runs)

    def __str__(self) -> str:
        return f"{seconds(self.median)} ({seconds(min(self.runs))} to {seconds(max(self.runs))})"


def side_by_side(functions: Mapping[str, Run], *, runs: int = 5, warm_up: int = 1) -> dict[str, Times]:
    """Time functions in turn, A B C, C B A, ..., for ``runs`` rounds after ``warm_up`` rounds that are not counted."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(warm_up + runs):
        for name, function in list(functions.items())[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            function()
            if number >= warm_up:
                taken[name].append(time.perf_counter() - began)
    return {name: Times(tuple(values)) for name, values in taken.items()}


def ratio(slow: Times, fast: Times) -> float:
    """How many times longer ``slow`` takes: the median of the ratios round by round."""
    return statistics.median(a / b for a, b in zip(slow.runs, fast.runs, strict=True))


def peak_memory(function: Run) -> int:
    """Bytes by which the process grows while ``function`` runs, at its peak (Linux: VmHWM, reset beforehand).

    The function runs once before, so that what stays allocated is not counted; freed memory is returned first.
    """
    function()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    function()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def machine() -> dict[str, Any]:
    """Hardware and versions behind the figures."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    packages = ("torch", "torchvision", "timm", "numba", "numpy", "pillow", "onnxruntime")
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def largest_so_far() -> int:
    """Bytes: the largest resident size of this process since it began."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def seconds(value: float) -> str:
    """``12.3 ms`` or ``1.23 s``."""
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def mebibytes(value: float) -> str:
    """``12.3 MiB``."""
    return f"{value / 2**20:,.1f} MiB"
