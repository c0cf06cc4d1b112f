"""Runs to interrupt, and what a run leaves behind in a form that can be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

STEPS = 6
"""Optimizer steps of an epoch: 48 images in batches of 8."""

TRICKY: dict[str, dict[str, Any]] = {
    "plain": {},
    "EMA and accumulation": {
        "data": {"augment": "modern"},
        "optim": {"accumulate": 2, "ema": 0.9, "schedule": "onecycle", "clip_norm": 1.0},
    },
    "mixed images and SAM": {
        "data": {"augment": "flip", "sampling": "repeat_factor", "repeat_threshold": 0.13},
        "optim": {"accumulate": 2, "mix": {"name": "cutmix", "probability": 0.7}, "sam": 0.05, "layer_decay": 0.7},
    },
    "sgd with worker processes": {
        "data": {"workers": 2, "augment": "published"},
        "optim": {"name": "sgd", "lr": 0.05, "schedule": "step", "step_epochs": [1]},
    },
}


def lines(folder: Path, *events: str) -> list[dict[str, Any]]:
    """Log lines, without what depends on the clock."""
    read = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    clock = ("time", "seconds", "train_seconds", "wait_seconds", "images_per_second", "peak_memory_bytes", "minutes")
    kept = [{key: value for key, value in line.items() if key not in clock} for line in read]
    return [line for line in kept if not events or line["event"] in events]


def result(folder: Path) -> dict[str, Any]:
    """All that a run leaves behind but for times: files as bytes, tensors as lists of bytes."""
    state = torch.load(folder / "last.pt", weights_only=True)
    state["progress"].pop("seconds")
    files = ["metrics-val.json", "settings.yaml"]
    files += [f"bundle/{name}.safetensors" for name in ("model", "label_inputs", "split_images")] + [
        "bundle/bundle.json"
    ]
    return {
        "state": plain(state),
        "log": lines(folder, "start", "epoch", "evaluate", "end"),
        **{name: (folder / name).read_bytes() for name in files if (folder / name).exists()},
    }


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes())
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value
