"""Compose what a run's bundle says about itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msrn.bundle.label_inputs import embedding_record, graph_record
from msrn.bundle.metadata import Metadata, SplitRecord
from msrn.bundle.write import package_versions
from msrn.config import Settings
from msrn.engine.evaluation import Evaluation
from msrn.engine.setup import SHOWN, Setup
from msrn.metrics import TunedThreshold

__all__ = ["compose_metadata", "warn_of_untuned"]

logger = logging.getLogger(__name__)


def compose_metadata(
    setup: Setup, settings: Settings, *, epoch: int, tuned: Sequence[TunedThreshold], evaluation: Evaluation | None
) -> Metadata:
    """The metadata of the bundle of an epoch, without the digests of its files.

    Args:
        setup: data, label inputs and preprocessing of the run.
        settings: the whole tree.
        epoch: whose weights are kept, from 1.
        tuned: the thresholds, in the order of the labels; empty: all are 0.5.
        evaluation: on the validation split; None without one.
    """
    splits = {"train": SplitRecord.of(setup.train)}
    splits |= {"val": SplitRecord.of(setup.val)} if setup.val else {}
    sources, names = setup.sources, setup.labels.names
    metadata = Metadata(
        labels=names,
        labels_digest=setup.labels.digest,
        preprocessing=setup.preprocessing,
        precision=settings.run.precision,
        thresholds=dict.fromkeys(names, 0.5),
        threshold_support={},
        thresholds_chosen="0.5 for all",
        thresholds_split=None,
        splits=splits,
        epoch=epoch,
        metrics=evaluation.headline() if evaluation else {},
        embeddings=embedding_record(sources.embeddings) if sources.embeddings else None,
        graph=graph_record(sources.graph) if sources.graph else None,
        settings=settings.model_dump(mode="json"),
        versions=package_versions(),
        files={},
    )
    return metadata.with_thresholds(tuned, chosen=str(settings.thresholds), split=splits["val"]) if tuned else metadata


def warn_of_untuned(metadata: Metadata) -> None:
    """Name the labels whose thresholds could not be tuned."""
    support = metadata.threshold_support
    if untuned := [name for name, record in support.items() if not record.tuned]:
        more = f" and {len(untuned) - SHOWN:,} more" if len(untuned) > SHOWN else ""
        logger.warning(
            "thresholds of %d of %d labels stay at 0.5, which the validation split cannot better: %s%s",
            len(untuned), len(support), ", ".join(untuned[:SHOWN]), more,
        )  # fmt: skip
