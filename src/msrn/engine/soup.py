"""Weight soups: the mean of the weights of several classifiers as one (Wortsman et al., ICML 2022, arXiv 2203.05482).

Statistics of batch norms are averaged as the weights are: those of the averaged weights themselves would take a pass
over the training images. Thresholds and calibration belong to one set of weights; a soup has neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msrn.bundle.metadata import WEIGHTS_FILE, Metadata, bundle_folder
from msrn.bundle.read import Bundle, read_bundle
from msrn.bundle.split_images import read_split_images
from msrn.bundle.write import package_versions, write_bundle
from msrn.config import Settings
from msrn.engine.distributed import launch
from msrn.engine.evaluate import evaluate_scores
from msrn.engine.scoring import score_split
from msrn.engine.tune import validation_images
from msrn.errors import BundleError, ConfigError, Problem
from msrn.models.classifier import memory_layout

__all__ = ["Soup", "average", "make_soup"]

State = dict[str, Tensor]
"""A state dict."""

HOW_TRAINED = {"weights", "freeze", "freeze_norm"}
"""Settings of ``model`` that say where weights came from, and nothing of the network."""


@dataclass(frozen=True, slots=True)
class Soup:
    """A soup as written, the bundles in it, and by ``greedy`` the validation mAP of each bundle and of the soup."""

    metadata: Metadata
    ingredients: tuple[str, ...]
    val_maps: dict[str, float]
    val_map: float | None


def make_soup(folders: Sequence[str], out: str | Path, *, greedy: Settings | None = None) -> Soup:
    """Average the weights of bundles of one network, and write the mean as a bundle.

    Args:
        folders: at least two bundles, or run folders that hold one.
        out: new folder.
        greedy: settings that name the validation images and the device. Then bundles are tried from the best to the
            worst by mAP, and one stays only if the soup is no worse with it. None: all of them are averaged.

    Raises:
        ConfigError: fewer than two bundles, one given twice, or ``out`` exists.
        BundleError: one cannot be read; or two differ in labels, label inputs, preprocessing, network or splits.
        DataError: as reading the validation images does.
    """
    if len(folders) < 2 or len({bundle_folder(each).resolve() for each in folders}) < len(folders):
        raise ConfigError(f"expected two or more different bundles, got {', '.join(folders)}", "command line")
    if Path(out).exists():
        raise ConfigError("expected a new folder for the soup, found one", str(out), "choose another with --out")
    bundles = [read_bundle(folder, precompute=False, calibrated=False) for folder in folders]
    first, images = bundles[0], read_split_images(bundle_folder(folders[0]), bundles[0].metadata)
    _require_alike(bundles, folders)
    states = [{name: value.clone() for name, value in bundle.model.state_dict().items()} for bundle in bundles]
    chosen = list(range(len(folders)))
    val_maps: list[float] = []
    val_map: float | None = None
    if greedy:
        chosen, val_maps, val_map = _greedy(states, _scorer(first, folders[0], greedy))
    first.model.load_state_dict(average([states[number] for number in chosen]))
    metadata = _described([bundles[number].metadata for number in chosen], val_map)
    written = write_bundle(Path(out), first.model, first.inputs, metadata, split_images=images or None)
    names = tuple(folders[number] for number in chosen)
    return Soup(written, names, dict(zip(folders, val_maps, strict=True)) if greedy else {}, val_map)


def average(states: Sequence[State]) -> State:
    """The mean of state dicts of equal keys and shapes; of whole numbers, which count batches, the largest."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else torch.stack([state[name] for state in states]).amax(dim=0)
        for name, value in states[0].items()
    }


def _described(used: Sequence[Metadata], val_map: float | None) -> Metadata:
    """The metadata of the mean of bundles: what they share, and nothing that was chosen for one of them."""
    changes = {
        "thresholds": dict.fromkeys(used[0].labels, 0.5),
        "threshold_support": {},
        "thresholds_chosen": "0.5 for all",
        "thresholds_split": None,
        "calibration": None,
        "epoch": max(each.epoch for each in used),
        "metrics": {} if val_map is None else {"mAP": val_map},
        "soup": tuple(each.files[WEIGHTS_FILE] for each in used),
        "versions": package_versions(),
    }
    return used[0].model_copy(update=changes)


def _greedy(states: Sequence[State], score: Callable[[State], float]) -> tuple[list[int], list[float], float]:
    """Positions of the bundles in the soup, best first, the score of each bundle, and that of the soup."""
    alone = [score(state) for state in states]
    order = sorted(range(len(states)), key=lambda number: -alone[number])
    chosen, best = order[:1], alone[order[0]]
    for number in order[1:]:
        found = score(average([states[each] for each in (*chosen, number)]))
        if found >= best:
            chosen, best = [*chosen, number], found
    return chosen, alone, best


def _scorer(bundle: Bundle, folder: str, settings: Settings) -> Callable[[State], float]:
    """Weights to their mAP on the validation split; the bundle's model is used for it."""
    fabric = launch(settings.run)
    manifest = validation_images(settings, folder, bundle.metadata)
    model = bundle.model.to(fabric.device).to(memory_format=memory_layout(bundle.model))

    def score(state: State) -> float:
        model.load_state_dict(state)
        scores = score_split(model, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)
        return evaluate_scores(scores, manifest, difficult=settings.data.difficult).metrics.mean_ap

    return score


def _require_alike(bundles: Sequence[Bundle], folders: Sequence[str]) -> None:
    """Refuse bundles whose weights do not mean the same, or that leave no image unseen to judge their mean by."""
    first = _shared(bundles[0])
    problems = []
    for bundle, folder in zip(bundles[1:], folders[1:], strict=True):
        for what, (value, hint) in _shared(bundle).items():
            if value != first[what][0]:
                problems.append(Problem(f"its {what} are not those of {folders[0]}", folder, hint))
    if problems:
        raise BundleError.of(problems, "only classifiers of one network, trained for the same labels, can be averaged")


def _shared(bundle: Bundle) -> dict[str, tuple[Any, str]]:
    """What bundles of a soup must share, with what to do where they do not."""
    metadata, inputs = bundle.metadata, bundle.inputs
    model = {name: value for name, value in metadata.settings["model"].items() if name not in HOW_TRAINED}
    digests = {name: split.digest for name, split in metadata.splits.items()}
    given = [each if each is None else each.tolist() for each in (inputs.embeddings, inputs.graph)]
    again = "train it with the same"
    return {
        "labels": (metadata.labels, f"{again} --data.labels"),
        "network settings": (model, f"{again} --model settings"),
        "preprocessing settings": (
            metadata.preprocessing,
            f"{again} --data.image_size, --data.resize, --data.views and backbone",
        ),
        "images of training and validation": (
            digests,
            f"{again} --data.train and --data.val; a held-out part has a seed",
        ),
        "label embeddings or label graph": (given, f"{again} --labels settings on the same training split"),
    }
