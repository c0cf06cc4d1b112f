"""What is to be learnt? Settings to manifests, label space, word vectors, graph and model, all bound by name."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from msrn.config import DifficultPolicy, LabelSettings, Settings
from msrn.data import READERS
from msrn.data.records import Manifest, Record
from msrn.data.transforms import Preprocessing
from msrn.errors import ConfigError
from msrn.labels.graph import LabelGraph, cooccurrence, identity_graph, label_graph
from msrn.labels.space import LabelSpace
from msrn.labels.vectors import WordVectors, word_vectors
from msrn.models import Tagger, build_model

__all__ = [
    "Targets",
    "Task",
    "build_task",
    "label_side",
    "read_labels_and_train",
    "read_named_split",
    "split_targets",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Targets:
    """``(n, L)`` arrays in {1, 0, nan}; they differ only in what a difficult object counts as."""

    train: np.ndarray
    ap: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that training needs and that does not change during it."""

    labels: LabelSpace
    train: Manifest
    val: Manifest | None
    vectors: WordVectors
    graph: LabelGraph
    model: Tagger
    preprocessing: Preprocessing


def build_task(settings: Settings) -> Task:
    """Read the data, make the label side from the training split alone, and build the model.

    Raises:
        DataError, LabelError, WeightsError, ConfigError: as the parts raise them.
    """
    train = read_labels_and_train(settings)
    val: Manifest | None = None
    if not settings.data.val:
        train, val = _hold_out(train, settings.data.val_fraction, settings.run.seed)
    elif settings.data.val != "none":
        val = read_split(settings, "val", train.labels)
    vectors, graph = label_side(train, settings.labels, settings.run.seed)
    model = build_model(
        settings.model,
        label_vectors=torch.from_numpy(np.array(vectors.values)),
        adjacency=torch.from_numpy(np.array(graph.adjacency)),
        image_size=settings.data.image_size,
    )
    statistics = model.backbone.statistics
    preprocessing = Preprocessing(
        size=settings.data.image_size,
        resize=settings.data.resize,
        interpolation=statistics.interpolation,
        decode_margin=settings.data.decode_margin,
        mean=statistics.mean,
        std=statistics.std,
    )
    return Task(train.labels, train, val, vectors, graph, model, preprocessing)


def read_labels_and_train(settings: Settings) -> Manifest:
    """The training split, bound to ``data.labels`` or to the labels it names."""
    names = LabelSpace.read(Path(settings.data.labels)) if settings.data.labels else None
    return read_split(settings, "train", names)


def read_named_split(settings: Settings, which: str, labels: LabelSpace) -> Manifest:
    """``train``, ``val`` or ``test``; for an unset ``val``, the part of the training split that training holds out."""
    if which == "val" and not settings.data.val:
        return _hold_out(read_split(settings, "train", labels), settings.data.val_fraction, settings.run.seed)[1]
    return read_split(settings, which, labels)


def read_split(settings: Settings, which: str, labels: LabelSpace | None) -> Manifest:
    """One split of the data set that the settings name: ``train``, ``val`` or ``test``."""
    data = settings.data
    split = getattr(data, which)
    if not split or split == "none":
        raise ConfigError(f"no {which} split is set", where=f"data.{which}", hint=f"pass --data.{which}")
    return READERS[data.format](data, split, labels)


def label_side(train: Manifest, settings: LabelSettings, seed: int) -> tuple[WordVectors, LabelGraph]:
    """Word vectors of the label names, and the graph of the training split."""
    vectors = word_vectors(train.labels, settings.vectors, seed=seed)
    if settings.graph == "identity":
        return vectors, identity_graph(train.labels)
    counts = cooccurrence(train.targets("negative"))
    graph = label_graph(
        counts.counts, counts.totals, labels=train.labels, threshold=settings.threshold, reweight=settings.reweight
    )
    return vectors, graph


def split_targets(manifest: Manifest, policy: DifficultPolicy) -> Targets:
    """Targets under a policy for difficult objects; ``msrn`` does what the published program does."""
    if policy == "msrn":
        return Targets(manifest.targets("positive"), manifest.targets("ignore"), manifest.targets("negative"))
    same = manifest.targets(policy)
    return Targets(same, same, same)


def _hold_out(train: Manifest, fraction: float, seed: int) -> tuple[Manifest, Manifest]:
    """A seeded part of the training split for validation."""
    order = np.random.default_rng([seed, 20]).permutation(len(train))
    count = max(1, round(fraction * len(train)))
    if count >= len(train):
        raise ConfigError(f"cannot hold out {count} of {len(train)} pictures", where="data.val_fraction")
    logger.info("no validation split is set: %d of %d training pictures are held out", count, len(train))
    held, kept = np.sort(order[:count]), np.sort(order[count:])

    def part(indices: np.ndarray, split: str) -> Manifest:
        records: tuple[Record, ...] = tuple(train.records[index] for index in indices)
        return Manifest(records, train.labels, split, train.root, train.source)

    return part(kept, f"{train.split} (kept)"), part(held, f"{train.split} (held out)")
