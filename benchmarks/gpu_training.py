"""Time and memory of a training step of MSRN on this GPU, and the share of semantic attention in it.

    python benchmarks/gpu_training.py --out results

The published network (ResNet-101, output layer flatten) at 448 pixels with random weights: forward, backward, and the
step of the optimizer, on a batch that is already on the GPU. The same network is timed with each form of its operator;
``none`` replaces it by a mean over positions, and so gives the cost of the rest. A form that runs out of memory is a
result. The floor of attention is that of ``gpu_operator.py``. Results are written to ``gpu_training.json`` in the
folder; a table is printed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gpu_operator import POSITIONS, WIDTH, Ceilings, copy_rate, exponential_rate, machine, need_gpu, write
from network import build, operator
from torch import Tensor

from msrn.config import load_settings
from msrn.engine.optim import build_optimizer
from msrn.losses.soft_margin import soft_margin
from msrn.presets import preset

DATA_SETS = {"VOC": ("voc2007", 20, 24), "COCO": ("coco2014", 80, 84)}
"""Preset, labels L, and labels and groups K."""
PRECISIONS = ("32-true", "bf16-mixed")
FORMS = ("triton", "chunked", "reference", "none")
NODES = {"msrn::semantic_attention", "msrn::semantic_attention_backward"}
"""The operator in a profile."""


def main(arguments: list[str] | None = None) -> None:
    """Measure, write after every configuration, print. Exits with 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu_training.json; created if missing")
    parser.add_argument("--images", type=int, default=64, help="images of a batch")
    parser.add_argument("--size", type=int, default=448, help="pixels, each side")
    parser.add_argument("--steps", type=int, default=10, help="steps timed of each form")
    options = parser.parse_args(arguments)
    need_gpu("gpu_training")
    ceilings = Ceilings(copy_rate(), exponential_rate())
    rows: list[dict[str, Any]] = []
    for name in DATA_SETS:
        for precision in PRECISIONS:
            rows += measure(name, precision, options.images, options.size, options.steps, ceilings)
            document = {
                "machine": machine(),
                "ceilings": asdict(ceilings),
                "convolutions_in_tf32": torch.backends.cudnn.allow_tf32,
                "matrix_products_in_tf32": torch.backends.cuda.matmul.allow_tf32,
                "images": options.images,
                "size": options.size,
                "rows": rows,
            }
            write(options.out / "gpu_training.json", document)
    print(table(rows))


def measure(name: str, precision: str, images: int, size: int, steps: int, ceilings: Ceilings) -> list[dict[str, Any]]:
    """A row for each form of the operator."""
    preset_name, labels, count = DATA_SETS[name]
    step = training_step(preset_name, labels, precision)
    image = torch.randn(images, 3, size, size, device="cuda").contiguous(memory_format=torch.channels_last)
    target = (torch.rand(images, labels, device="cuda") < 0.1).float()
    scale = (size / 448) ** 2
    item_bytes = 2 if precision == "bf16-mixed" else 4
    floor = sum(
        ceilings.floor_ms(images, math.ceil(n * scale), count, WIDTH, item_bytes, "forward + backward")
        for n in POSITIONS
    )
    rows = []
    for form in FORMS:
        torch.cuda.empty_cache()
        row: dict[str, Any] = {"labels": name, "precision": precision, "form": form}
        rows.append(row)
        try:
            with operator(form):
                row |= timed(functools.partial(step, image, target), steps)
        except torch.OutOfMemoryError:
            row["failed"] = "out of memory"
            continue
        if row.get("attention_ms"):
            row |= {"floor_ms": floor, "share_of_floor": floor / row["attention_ms"]}
    return rows


def training_step(preset_name: str, labels: int, precision: str) -> Callable[[Tensor, Tensor], None]:
    """A training step of the preset's network with random weights."""
    settings = load_settings(preset(preset_name))
    model = build(settings.model, labels).cuda().train()
    optimizer = build_optimizer(model, settings.optim)

    def autocast() -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16-mixed")

    def step(image: Tensor, target: Tensor) -> None:
        with autocast():
            output = model(image)
        (soft_margin(output.logits, target) + sum(output.aux_losses.values())).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(step: Callable[[], None], steps: int, warm_up: int = 3) -> dict[str, Any]:
    """Milliseconds of a step (median, minimum, maximum), GiB at the peak, and milliseconds of the operator alone."""
    for _ in range(warm_up):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize()
    taken = [before.elapsed_time(after) for before, after in itertools.pairwise(marks)]
    return {
        "ms": statistics.median(taken),
        "min_ms": min(taken),
        "max_ms": max(taken),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "attention_ms": attention_ms(step),
    }


def attention_ms(step: Callable[[], None], steps: int = 3) -> float:
    """Milliseconds that a step's nodes of semantic attention take on the GPU, both ways; 0 where there is no node."""
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds, acc_events=True) as profile:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    return sum(row.device_time_total for row in profile.key_averages() if row.key in NODES) / steps / 1e3


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a line for each row."""
    titles = ["labels", "precision", "form", "step, ms (min to max)", "peak, GiB"]
    titles += ["attention, ms", "floor, ms", "floor / time"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        cells = [row["labels"], row["precision"], row["form"]]
        if "failed" in row:
            cells += [row["failed"], "", "", "", ""]
        else:
            cells += [f"{row['ms']:.1f} ({row['min_ms']:.1f} to {row['max_ms']:.1f})", f"{row['peak_gib']:.1f}"]
            cells.append(f"{row['attention_ms']:.2f}" if row["attention_ms"] else "")
            share = (f"{row['floor_ms']:.2f}", f"{row['share_of_floor']:.0%}") if "floor_ms" in row else ("", "")
            cells += share
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
