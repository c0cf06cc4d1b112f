"""What is to be learnt? Settings to manifests, label space, word vectors, graph and model, all bound by name."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from msrn.config import DifficultPolicy, LabelSettings, Settings
from msrn.data import READERS
from msrn.data.manifest import NEGATIVE, POSITIVE, Manifest
from msrn.data.readers.nuswide import PUBLISHED_ORDER
from msrn.data.split import split_manifest
from msrn.data.transforms import Preprocessing
from msrn.errors import ConfigError, DataError
from msrn.labels.embeddings import WordVectors, word_vectors
from msrn.labels.graph import LabelGraph, cooccurrence, graph_of, identity_graph, label_graph
from msrn.labels.graph_io import read_edges, read_published
from msrn.labels.space import LabelSpace
from msrn.models import Tagger, build_model

__all__ = [
    "Targets",
    "Task",
    "build_task",
    "label_side",
    "read_labels_and_train",
    "read_named_split",
    "read_train_and_val",
    "split_targets",
    "tell_unknown",
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
    train, val = read_train_and_val(settings)
    if val is not None:
        _must_judge(val, settings.data.difficult)
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
    """The training split, bound to ``data.labels`` or to the labels it names.

    Pictures of which no label is known are left out: they teach nothing, and would thin out the mean over a batch.
    """
    names = LabelSpace.read(Path(settings.data.labels)) if settings.data.labels else None
    return _of_known_labels(read_split(settings, "train", names))


def read_train_and_val(settings: Settings) -> tuple[Manifest, Manifest | None]:
    """The pictures that training learns from, and those it is judged on: what is held out where none are set.

    How much is unknown of them is logged.
    """
    train, val = read_labels_and_train(settings), None
    if not settings.data.val:
        train, val = _hold_out(train, settings.data.val_fraction, settings.run.seed)
    elif settings.data.val != "none":
        val = read_split(settings, "val", train.labels)
    tell_unknown("training", train)
    if val is not None:
        tell_unknown("validation", val)
    return train, val


def read_named_split(settings: Settings, which: str, labels: LabelSpace) -> Manifest:
    """``train``, ``val`` or ``test``; for an unset ``val``, the part of the training split that training holds out."""
    if which == "val" and not settings.data.val:
        train = _of_known_labels(read_split(settings, "train", labels))
        return _hold_out(train, settings.data.val_fraction, settings.run.seed)[1]
    return read_split(settings, which, labels)


def read_split(settings: Settings, which: str, labels: LabelSpace | None) -> Manifest:
    """One split of the data set that the settings name: ``train``, ``val`` or ``test``."""
    data = settings.data
    split = getattr(data, which)
    if not split or split == "none":
        raise ConfigError(f"no {which} split is set", where=f"data.{which}", hint=f"pass --data.{which}")
    return READERS[data.format](data, split, labels)


def label_side(train: Manifest, settings: LabelSettings, seed: int) -> tuple[WordVectors, LabelGraph]:
    """Vectors of the label names, and the graph: counted on the training split, or of the file that the settings name.

    Raises:
        DependencyError, LabelError, ShapeError: as reading the vectors and the graph does.
    """
    labels = train.labels
    vectors = word_vectors(
        labels, settings.vectors, aliases=settings.alias_texts, template=settings.template, seed=seed
    )
    return vectors, _graph(train, settings)


def _graph(train: Manifest, settings: LabelSettings) -> LabelGraph:
    labels, path = train.labels, settings.graph_file
    both = settings.direction == "symmetric"
    if settings.graph == "identity":
        return identity_graph(labels)
    threshold, reweight = settings.threshold, settings.reweight
    if settings.graph == "file":
        weights = read_edges(path, labels)
        source = f"edges of {path}"
        return graph_of(weights, labels=labels, threshold=threshold, reweight=reweight, symmetric=both, source=source)
    if settings.graph == "published":
        counts, totals = read_published(path, labels, order=LabelSpace(PUBLISHED_ORDER))
        source = f"published counts of {path}"
        return label_graph(
            counts, totals, labels=labels, threshold=threshold, reweight=reweight, symmetric=both, source=source
        )
    return label_graph(
        *cooccurrence(train.targets("negative")),
        labels=labels,
        threshold=threshold,
        reweight=reweight,
        smoothing=settings.smoothing,
        symmetric=both,
        source=f"counted on {len(train):,} training pictures",
    )


def split_targets(manifest: Manifest, policy: DifficultPolicy) -> Targets:
    """Targets under a policy for difficult objects; ``msrn`` does what the published program does."""
    if policy == "msrn":
        return Targets(manifest.targets("positive"), manifest.targets("ignore"), manifest.targets("negative"))
    same = manifest.targets(policy)
    return Targets(same, same, same)


def _hold_out(train: Manifest, fraction: float, seed: int) -> tuple[Manifest, Manifest]:
    """A seeded part of the training split for validation, with its share of every label."""
    kept, held = split_manifest(train, {"kept": 1 - fraction, "held out": fraction}, seed=seed).values()
    logger.info("no validation split is set: %d of %d training pictures are held out", len(held), len(train))
    return replace(kept, split=f"{train.split} (kept)"), replace(held, split=f"{train.split} (held out)")


def _of_known_labels(train: Manifest) -> Manifest:
    """The pictures of which some label is known."""
    records = tuple(record for record in train.records if len(record.unknown) < len(train.labels))
    if not records:
        raise DataError("no label of any training picture is known", train.source, "fill in cells: 1, 0 or names")
    dropped = len(train) - len(records)
    if not dropped:
        return train
    logger.info("%s of %s training pictures are left out: no label of them is known", f"{dropped:,}", f"{len(train):,}")
    return replace(train, records=records, source=f"{train.source}, pictures of no known label left out ({dropped:,})")


def tell_unknown(which: str, part: Manifest) -> None:
    """Log how many entries of a split are unknown, and the labels that this leaves without one of the two kinds."""
    unknown = part.unknown_entries
    if not unknown:
        return
    codes = part.codes()
    told = "%s split: %s of %s entries (pictures x labels) are unknown, %.1f %%: masked in loss, graph and metrics"
    logger.info(told, which, f"{unknown:,}", f"{codes.size:,}", 100 * unknown / codes.size)
    for code, what in ((POSITIVE, "positive"), (NEGATIVE, "negative")):
        there = (codes == code).any(axis=0).tolist()
        if lacking := [name for name, found in zip(part.labels, there, strict=True) if not found]:
            logger.warning("%s split: no known %s for %s", which, what, ", ".join(lacking))


def _must_judge(val: Manifest, policy: DifficultPolicy) -> None:
    """Without a label of both kinds, every model would get the same mAP, or none."""
    target = split_targets(val, policy).ap
    if not ((target == 1).any(axis=0) & (target == 0).any(axis=0)).any():
        told = "no label has both a known positive and a known negative in the validation split"
        hint = "name other pictures with --data.val; --data.val none trains without any and keeps the last epoch"
        raise DataError(told, val.source, hint)
