"""Settings to what a run works on: manifests, label inputs, model and preprocessing, all bound by name."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from msrn import registry
from msrn.config import DataSettings, DifficultPolicy, LabelSettings, Settings
from msrn.data.manifest import NEGATIVE, POSITIVE, Manifest
from msrn.data.split import split_manifest
from msrn.data.transforms import Preprocessing
from msrn.errors import ConfigError, DataError, LabelError
from msrn.labels.cooccurrence import cooccurrence
from msrn.labels.embeddings import LabelEmbeddings, label_embeddings
from msrn.labels.graph import LabelGraph, graph_of, identity_graph, label_graph
from msrn.labels.graph_io import read_edges, read_published_counts
from msrn.labels.space import LabelSpace
from msrn.losses.base import LabelCounts, Loss
from msrn.models.classifier import MultiLabelClassifier, build_without_weights, create_model, head_class
from msrn.models.heads.base import LabelInputs

__all__ = [
    "LabelSources",
    "Setup",
    "Targets",
    "build_loss",
    "build_setup",
    "hold_out",
    "log_unknown",
    "read_labelled_train",
    "read_labels_and_train",
    "read_named_split",
    "read_split",
    "read_train_and_val",
    "rebuild_setup",
    "split_targets",
]

logger = logging.getLogger(__name__)

SPLITS = {"train": "training", "val": "validation", "test": "test"}

SHOWN = 20
"""Labels that a message names at most."""


@dataclass(frozen=True, slots=True)
class Targets:
    """``(n, L)`` arrays in {1, 0, nan}; they differ only in what a difficult object counts as."""

    train: np.ndarray
    ap: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True, slots=True)
class LabelSources:
    """The label inputs that a head reads, with their origin; None where it does not."""

    labels: LabelSpace
    embeddings: LabelEmbeddings | None
    graph: LabelGraph | None

    @classmethod
    def of(cls, train: Manifest, settings: LabelSettings, *, needs: Collection[str], seed: int) -> LabelSources:
        """Look the label names up and make the graph, as far as a head needs them.

        Args:
            train: the training split; the graph is counted on it alone.
            settings: the ``labels`` section.
            needs: of ``embeddings`` and ``graph``.
            seed: of embeddings that are drawn.

        Raises:
            DependencyError, LabelError, ShapeError: as reading the embeddings and the graph does.
        """
        labels = train.labels
        embeddings = None
        if "embeddings" in needs:
            embeddings = label_embeddings(
                labels, settings.embeddings, aliases=settings.alias_texts, template=settings.template, seed=seed
            )
        return cls(labels, embeddings, _graph(train, settings) if "graph" in needs else None)

    def inputs(self) -> LabelInputs:
        """As tensors."""
        return LabelInputs(
            self.labels.names,
            None if self.embeddings is None else torch.from_numpy(np.array(self.embeddings.values)),
            None if self.graph is None else torch.from_numpy(np.array(self.graph.adjacency)),
        )


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything that training needs and that does not change during it."""

    train: Manifest
    val: Manifest | None
    sources: LabelSources
    inputs: LabelInputs
    model: MultiLabelClassifier
    preprocessing: Preprocessing

    @property
    def labels(self) -> LabelSpace:
        """The labels in the order of all columns."""
        return self.train.labels


def build_setup(settings: Settings, *, pretrained: bool = True) -> Setup:
    """Read the data, make the label inputs from the training split alone, and build the model.

    Args:
        settings: the whole tree.
        pretrained: load the weights that the settings name; a resumed run brings its own.

    Raises:
        DataError, LabelError, WeightsError, ConfigError: as the parts raise them.
    """
    train, val = read_train_and_val(settings)
    if val is not None:
        _require_both_kinds(val, settings.data.difficult)
    needs = head_class(settings.model.head.name).needs(settings.model.head)
    sources = LabelSources.of(train, settings.labels, needs=needs, seed=settings.run.seed)
    inputs = sources.inputs()
    make = create_model if pretrained else build_without_weights
    model = make(settings.model, inputs, image_size=settings.data.image_size)
    return Setup(train, val, sources, inputs, model, _preprocessing(settings.data, model))


def build_loss(settings: Settings, train: Manifest) -> Loss:
    """The loss that the settings name, with the counts of the training split."""
    target = torch.from_numpy(split_targets(train, settings.data.difficult).train)
    loss: Loss = registry.load("loss", settings.loss.name)(settings.loss, counts=LabelCounts.of(target))
    return loss


def rebuild_setup(settings: Settings) -> Setup:
    """``build_setup`` for a run that is resumed: it brings its own weights, and its data may have moved.

    Raises:
        DataError, LabelError: with a hint at the settings that say where data is. Others: as ``build_setup``.
    """
    try:
        return build_setup(settings, pretrained=False)
    except (DataError, LabelError) as error:
        moved = "if the data was moved, say where: --data.root, --data.train, --data.val (paths start from here)"
        hint = "; ".join(filter(None, [moved, error.hint]))
        problems = error.problems if len(error.problems) > 1 else ()
        raise type(error)(error.message, error.where, hint, problems=problems) from error


def _preprocessing(data: DataSettings, model: MultiLabelClassifier) -> Preprocessing:
    statistics = model.backbone.statistics
    return Preprocessing(
        size=data.image_size,
        resize=data.resize,
        interpolation=statistics.interpolation,
        decode_margin=data.decode_margin,
        views=data.views,
        mean=statistics.mean,
        std=statistics.std,
    )


def read_labels_and_train(settings: Settings) -> Manifest:
    """The training split, bound to ``data.labels`` or to the labels it names.

    Images without a known label are left out: they have no part in the loss.
    """
    names = LabelSpace.read(Path(settings.data.labels)) if settings.data.labels else None
    return read_labelled_train(settings, names)


def read_labelled_train(settings: Settings, labels: LabelSpace | None) -> Manifest:
    """The training split without images of which no label is known; bound to ``labels``, or to those it names."""
    return _of_known_labels(read_split(settings, "train", labels))


def read_train_and_val(settings: Settings) -> tuple[Manifest, Manifest | None]:
    """The training and validation splits; where no validation split is set, a part of training is held out.

    The number of unknown entries is logged.
    """
    train, val = read_labels_and_train(settings), None
    if not settings.data.val:
        train, val = hold_out(train, settings.data.val_fraction, settings.run.seed)
    elif settings.data.val != "none":
        val = read_split(settings, "val", train.labels)
    log_unknown("training", train)
    if val is not None:
        log_unknown("validation", val)
    return train, val


def read_named_split(settings: Settings, which: str, labels: LabelSpace) -> Manifest:
    """``train``, ``val`` or ``test``; for an unset ``val``, the part of the training split that training holds out."""
    if which == "val" and not settings.data.val:
        train = read_labelled_train(settings, labels)
        return hold_out(train, settings.data.val_fraction, settings.run.seed)[1]
    return read_split(settings, which, labels, owner="the bundle")


def read_split(settings: Settings, which: str, labels: LabelSpace | None, *, owner: str = "") -> Manifest:
    """One split of the data set that the settings name: ``train``, ``val`` or ``test``.

    Args:
        settings: ``data`` names the split.
        which: the split.
        labels: those that it is bound to; None: those that it names.
        owner: what gave the labels, for messages; empty: the file ``data.labels`` for ``train``, or else training.

    Raises:
        ConfigError: no such split is set. DataError: as the reader raises it. Labels that it names and ``labels`` lacks
            are one problem, whatever the number of lines that name them.
    """
    data = settings.data
    split = getattr(data, which)
    if not split or split == "none":
        raise ConfigError(f"no {which} split is set", where=f"data.{which}", hint=f"pass --data.{which}")
    read = registry.load("reader", data.reader.name)
    try:
        manifest: Manifest = read(data.reader, data.root, split, labels)
    except DataError as error:
        unseen: list[str] = []
        if labels is not None:
            with suppress(DataError):
                unseen = [name for name in read(data.reader, data.root, split, None).labels if name not in labels]
        if not unseen:
            raise
        more = f" and {len(unseen) - SHOWN:,} more" if len(unseen) > SHOWN else ""
        owner = owner or ("the label file" if which == "train" else "the training split")
        hint = "write all labels, one a line, to a file and pass --data.labels FILE; or correct the names"
        raise DataError(
            f"the {SPLITS[which]} split has labels that {owner} lacks: {', '.join(unseen[:SHOWN])}{more}",
            split,
            hint if owner != "the bundle" else "correct the names, or train with all labels by --data.labels FILE",
        ) from error
    return manifest


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
        counts, totals = read_published_counts(path, labels)
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
        source=f"counted on {len(train):,} training images",
    )


def split_targets(manifest: Manifest, policy: DifficultPolicy) -> Targets:
    """Targets under a policy for difficult objects; ``msrn`` does what the published program does."""
    if policy == "msrn":
        return Targets(manifest.targets("positive"), manifest.targets("ignore"), manifest.targets("negative"))
    same = manifest.targets(policy)
    return Targets(same, same, same)


def hold_out(train: Manifest, fraction: float, seed: int) -> tuple[Manifest, Manifest]:
    """A seeded part of the training split for validation, with its share of every label."""
    kept, held = split_manifest(train, {"kept": 1 - fraction, "held out": fraction}, seed=seed).values()
    logger.info("no validation split is set: %d of %d training images are held out", len(held), len(train))
    return replace(kept, split=f"{train.split} (kept)"), replace(held, split=f"{train.split} (held out)")


def _of_known_labels(train: Manifest) -> Manifest:
    """The images with a known label."""
    records = tuple(record for record in train.records if len(record.unknown) < len(train.labels))
    if not records:
        raise DataError("no label of any training image is known", train.source, "fill in cells: 1, 0 or names")
    dropped = len(train) - len(records)
    if not dropped:
        return train
    logger.info("%s of %s training images are left out: they have no known label", f"{dropped:,}", f"{len(train):,}")
    source = f"{train.source}, images without a known label left out ({dropped:,})"
    return replace(train, records=records, source=source)


def log_unknown(which: str, part: Manifest) -> None:
    """Log how many entries of a split are unknown, and the labels without a known positive or negative."""
    unknown, codes = part.unknown_entries, part.codes()
    if unknown:
        message = "%s split: %s of %s entries (images x labels) are unknown, %.1f %%: masked in loss, graph and metrics"
        logger.info(message, which, f"{unknown:,}", f"{codes.size:,}", 100 * unknown / codes.size)
    for code, kind in ((POSITIVE, "positive"), (NEGATIVE, "negative")):
        there = (codes == code).any(axis=0).tolist()
        if lacking := [name for name, found in zip(part.labels, there, strict=True) if not found]:
            more = f" and {len(lacking) - SHOWN:,} more" if len(lacking) > SHOWN else ""
            logger.warning("%s split: no known %s for %s%s", which, kind, ", ".join(lacking[:SHOWN]), more)


def _require_both_kinds(val: Manifest, policy: DifficultPolicy) -> None:
    """Without a label that has positives and negatives, every model would get the same mAP, or none."""
    target = split_targets(val, policy).ap
    if not ((target == 1).any(axis=0) & (target == 0).any(axis=0)).any():
        message = "no label has both a known positive and a known negative in the validation split"
        hint = "name other images with --data.val; --data.val none trains without any and keeps the last epoch"
        raise DataError(message, val.source, hint)
