"""What does a bundle keep of the label side, and how is it read back without the data?

Vectors and graph are weights of the model, but weights do not say which words they stand for or why labels are joined.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, NonNegativeInt

from msrn.bundle.files import bundle_folder, read_bundle
from msrn.errors import BundleError, LabelError, ShapeError
from msrn.labels.embeddings import Resolved, WordVectors
from msrn.labels.graph import LabelGraph, graph_of
from msrn.labels.space import LabelSpace
from msrn.models.label_semantics import LabelSemantics

__all__ = ["LearntLabels", "label_record", "read_learnt_labels"]


@dataclass(frozen=True, eq=False)
class LearntLabels:
    """The label side of a bundle.

    Fields: labels; vectors, with empty ``resolved`` if the bundle was written before that was kept; graph, whose
    totals are zeros then and whose weights are all 1; assignment ``(L, G)``, the share of each label in each of the
    groups that MSRN learnt, rows sum to 1; pictures it was trained on, and their source in words.
    """

    labels: LabelSpace
    vectors: WordVectors
    graph: LabelGraph
    assignment: np.ndarray
    pictures: int
    source: str


class _VectorRecord(BaseModel):
    source: str
    labels: list[Resolved]


class _GraphRecord(BaseModel):
    source: str
    threshold: float
    symmetric: bool
    edges: list[tuple[str, str, float]]
    totals: list[NonNegativeInt]


class _Record(BaseModel):
    """``label_side`` of ``bundle.json``."""

    vectors: _VectorRecord
    graph: _GraphRecord


class _TrainData(BaseModel):
    """What is read of ``train_data`` in ``bundle.json``."""

    images: NonNegativeInt = 0
    source: str = ""


def label_record(vectors: WordVectors, graph: LabelGraph) -> dict[str, Any]:
    """What ``bundle.json`` holds under ``label_side``: plain values only."""
    return {
        "vectors": {
            "source": vectors.source,
            "labels": [asdict(item) for item in vectors.resolved],
        },
        "graph": {
            "source": graph.source,
            "threshold": graph.threshold,
            "symmetric": graph.symmetric,
            "edges": [list(edge) for edge in graph.edges()],
            "totals": [int(total) for total in graph.totals],
        },
    }


def read_learnt_labels(folder: str | Path) -> LearntLabels:
    """What a bundle, or the run folder that holds it, says of its labels.

    Raises:
        BundleError: no bundle there, a damaged one, or one of a model that has no label side.
    """
    bundle = read_bundle(folder, fold=False)
    where = str(bundle_folder(folder) / "bundle.json")
    semantics = getattr(bundle.model, "semantics", None)
    if not isinstance(semantics, LabelSemantics):
        name = bundle.settings.model.name
        raise BundleError(f"the model {name} looks at no label vectors, so it has no graph and no groups", where)
    with torch.no_grad():
        assignment = semantics().assignment.numpy()
    values = semantics.label_vectors.numpy()
    settings = bundle.settings.labels
    try:
        train = _TrainData.model_validate(bundle.facts.get("train_data", {}))
        if "label_side" in bundle.facts:
            record = _Record.model_validate(bundle.facts["label_side"])
            vectors, graph = _read_back(record, bundle.labels, values, reweight=settings.reweight)
        else:
            vectors = WordVectors(values, settings.vectors, ())
            weights = (semantics.adjacency.numpy().T > 0).astype(np.float64)  # row i of the adjacency: what calls for i
            np.fill_diagonal(weights, 0)
            told = "the bundle's weights, which do not say how strong"
            graph = graph_of(weights, labels=bundle.labels, reweight=settings.reweight, source=told)
    except (KeyError, ValueError, LabelError, ShapeError) as error:
        raise BundleError(f"the bundle is damaged: {error}", where, "copy the whole folder again") from error
    return LearntLabels(bundle.labels, vectors, graph, assignment, train.images, train.source)


def _read_back(
    record: _Record, labels: LabelSpace, values: np.ndarray, *, reweight: float
) -> tuple[WordVectors, LabelGraph]:
    found = {row.label: row for row in record.vectors.labels}
    resolved = tuple(found[name] for name in labels)
    weights = np.zeros((len(labels), len(labels)))
    for source, target, weight in record.graph.edges:
        weights[labels.column(source), labels.column(target)] = weight
    if len(record.graph.totals) != len(labels):
        raise ValueError("its label graph does not fit its labels")
    return WordVectors(values, record.vectors.source, resolved), graph_of(
        weights,
        labels=labels,
        threshold=record.graph.threshold,
        reweight=reweight,
        symmetric=record.graph.symmetric,
        totals=record.graph.totals,
        source=record.graph.source,
    )
