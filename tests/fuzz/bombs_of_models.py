"""Hostile results, checkpoints, weights and bundles written by hand, with the words by which they are refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial

import torch
from bomb_makers import Bomb, Runs, bundle_changed, bundle_with, endless, f32, many_labels, one, safetensors_of
from of_models import (
    csra_state,
    read_checkpoint,
    read_evaluation,
    read_log,
    read_model_weights,
    read_whole_bundle,
    torch_file,
)

__all__ = ["MODEL_BOMBS"]

read_pth = partial(read_model_weights, "model.pth")


def in_bundle(make: Callable[[], dict[str, bytes]], words: str) -> Bomb:
    return make, read_whole_bundle, words


def bad_file(content: Callable[[], bytes], words: str) -> Bomb:
    return in_bundle(lambda: bundle_with("label_inputs.safetensors", content()), words)


MODEL_BOMBS: dict[str, Bomb] = {
    "evaluation: nested deep": one("evaluation.json", lambda: b"[" * 100_000, read_evaluation, "format version"),
    "log: nested deep": one("log.jsonl", lambda: b"[" * 100_000 + b"\n{}\n", read_log, ""),
    "checkpoint: code": one("last.pt", lambda: pickle.dumps(Runs()), read_checkpoint, "damaged"),
    "checkpoint: code in a zip": one("last.pt", lambda: torch_file({"model": Runs()}), read_checkpoint, "it holds"),
    "checkpoint: a dictionary in itself": one(
        "last.pt", lambda: torch_file(endless()), read_checkpoint, "found no data"
    ),
    "weights: code": one("model.pth", lambda: torch_file(Runs()), read_pth, "it holds"),
    "weights: tensors without content": one(
        "model.pth",
        lambda: torch_file({name: torch.empty(value.shape, device="meta") for name, value in csra_state().items()}),
        read_pth,
        "plain numbers",
    ),
    "weights: one number as 10^12": one(
        "model.pth",
        lambda: torch_file({"head.scores.0.weight": torch.ones(1).expand(10**6, 10**6)}),
        read_pth,
        "missing entry",
    ),
    "safetensors: a header of 100 MB": bad_file(lambda: safetensors_of(b"{" + b" " * 10**8 + b"}"), "header"),
    "safetensors: a header of 2^63 bytes": bad_file(lambda: safetensors_of({}, length=2**63), "header"),
    "safetensors: tensors that overlap": bad_file(
        lambda: safetensors_of({**f32("embeddings", 0, 4), **f32("graph", 2, 6)}, bytes(6)), "damaged"
    ),
    "safetensors: offsets beyond the end": bad_file(
        lambda: safetensors_of(f32("embeddings", 0, 2**40, (2**38,)), bytes(8)), "damaged"
    ),
    "safetensors: a shape that overflows": bad_file(
        lambda: safetensors_of(f32("embeddings", 0, 8, (2**63, 2)), bytes(8)), "damaged"
    ),
    "bundle: 10^6 labels": in_bundle(lambda: bundle_changed(labels=[str(n) for n in range(10**6)]), "100,000 labels"),
    "bundle: 90,000 labels with a graph": in_bundle(many_labels, ""),
    "bundle: a label that is half a character": in_bundle(lambda: bundle_changed(labels=["\ud800"]), "damaged"),
    "bundle: an image size of 10^9": in_bundle(lambda: bundle_changed(preprocessing__size=10**9), "size"),
    "bundle: a deviation of 0": in_bundle(lambda: bundle_changed(preprocessing__std=[0, 1, 1]), "std"),
    "bundle: a margin without end": in_bundle(lambda: bundle_changed(preprocessing__decode_margin=1e999), "margin"),
    "bundle: semantics 10^9 wide": in_bundle(
        lambda: bundle_changed(settings__model__head__width=10**9), "cannot be built"
    ),
    "bundle: another network": in_bundle(lambda: bundle_changed(settings__model__backbone="resnet18"), "weights"),
    "bundle: a checkpoint outside": in_bundle(
        lambda: bundle_changed(settings__model__head__checkpoint="../secret.png"), ""
    ),
    "bundle: weights outside": in_bundle(lambda: bundle_changed(settings__model__weights="../secret.png"), ""),
    "bundle: a version without end": in_bundle(lambda: bundle_changed(format_version=1e999), "damaged"),
}
