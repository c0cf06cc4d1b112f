"""The label inputs of a bundle with their origin: what the embeddings stand for and why labels are joined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from msrn.bundle.metadata import METADATA_FILE, EmbeddingRecord, GraphRecord, bundle_folder
from msrn.bundle.read import read_bundle
from msrn.errors import BundleError, LabelError, ShapeError
from msrn.labels.embeddings import LabelEmbeddings
from msrn.labels.graph import LabelGraph, graph_of
from msrn.labels.space import LabelSpace, require_matrix

__all__ = ["LearnedLabels", "embedding_record", "graph_record", "read_label_inputs"]


@dataclass(frozen=True, eq=False)
class LearnedLabels:
    """The label inputs of a bundle, and the label groups that its head learned.

    Fields: labels; embeddings; graph; groups ``(L, G)``, the share of each label in each group, rows sum to 1, None for
    a head without groups; number of training images, and their source in words.
    """

    labels: LabelSpace
    embeddings: LabelEmbeddings
    graph: LabelGraph
    groups: np.ndarray | None
    images: int
    source: str


def embedding_record(embeddings: LabelEmbeddings) -> EmbeddingRecord:
    """What ``bundle.json`` keeps of label embeddings, beside their values."""
    return EmbeddingRecord(source=embeddings.source, labels=embeddings.resolved)


def graph_record(graph: LabelGraph) -> GraphRecord:
    """What ``bundle.json`` keeps of a label graph, beside its adjacency."""
    return GraphRecord(
        source=graph.source,
        threshold=graph.threshold,
        symmetric=graph.symmetric,
        edges=tuple(graph.edges()),
        totals=tuple(int(total) for total in graph.totals),
    )


def read_label_inputs(folder: str | Path) -> LearnedLabels:
    """The label inputs of a bundle, or of the run folder that holds it.

    Raises:
        BundleError: no bundle there, a damaged one, or one whose head reads no embeddings or no graph.
    """
    bundle = read_bundle(folder, precompute=False)
    where = str(bundle_folder(folder) / METADATA_FILE)
    metadata, values = bundle.metadata, bundle.inputs.embeddings
    if metadata.embeddings is None or metadata.graph is None or values is None:
        parts = {"no label embeddings": metadata.embeddings, "no label graph": metadata.graph}
        missing = " and ".join(name for name, part in parts.items() if part is None)
        raise BundleError(f"the head {bundle.head_name} reads {missing}", where)
    with torch.no_grad():
        groups = bundle.model.head.label_groups()
    try:
        train = metadata.splits["train"]
        found = {row.label: row for row in metadata.embeddings.labels}
        embeddings = LabelEmbeddings(
            values.numpy(), metadata.embeddings.source, tuple(found[name] for name in bundle.labels)
        )
        graph = _graph(metadata.graph, bundle.labels, float(metadata.settings["labels"]["reweight"]))
    except (KeyError, TypeError, ValueError, LabelError, ShapeError) as error:
        raise BundleError(f"the bundle is damaged: {error}", where, "copy the whole folder again") from error
    shares = None if groups is None else groups.numpy()
    return LearnedLabels(bundle.labels, embeddings, graph, shares, train.images, train.source)


def _graph(record: GraphRecord, labels: LabelSpace, reweight: float) -> LabelGraph:
    require_matrix(len(labels))
    weights = np.zeros((len(labels), len(labels)))
    for source, target, weight in record.edges:
        weights[labels.column(source), labels.column(target)] = weight
    if len(record.totals) != len(labels):
        raise ValueError("its label graph does not fit its labels")
    return graph_of(
        weights,
        labels=labels,
        threshold=record.threshold,
        reweight=reweight,
        symmetric=record.symmetric,
        totals=record.totals,
        source=record.source,
    )
