"""What does a bundle keep of the label side, and how is it read back without the data?

Vectors and graph are weights of the model, but weights do not say which words they stand for or why labels are joined.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msrn.engine.checkpoint import bundle_folder, read_bundle
from msrn.errors import BundleError, LabelError, ShapeError
from msrn.labels.graph import LabelGraph, graph_of
from msrn.labels.space import LabelSpace
from msrn.labels.vectors import Resolved, WordVectors
from msrn.models.semantics import LabelSemantics

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
    train = bundle.facts.get("train_data", {})
    record = bundle.facts.get("label_side")
    settings = bundle.settings.labels
    if record is None:
        vectors = WordVectors(values, settings.vectors, ())
        weights = (semantics.adjacency.numpy().T > 0).astype(np.float64)  # row i of the adjacency is what calls for i
        np.fill_diagonal(weights, 0)
        graph = graph_of(weights, labels=bundle.labels, source="the bundle's weights, which do not say how strong")
    else:
        try:
            vectors, graph = _read_back(record, bundle.labels, values)
        except (KeyError, TypeError, ValueError, LabelError, ShapeError) as error:
            raise BundleError(f"the bundle is damaged: {error}", where, "copy the whole folder again") from error
    return LearntLabels(
        bundle.labels, vectors, graph, assignment, int(train.get("images", 0)), str(train.get("source", ""))
    )


def _read_back(record: dict[str, Any], labels: LabelSpace, values: np.ndarray) -> tuple[WordVectors, LabelGraph]:
    found = {row["label"]: row for row in record["vectors"]["labels"]}
    texts = ("words", "missing", "pieces")
    resolved = tuple(Resolved(**found[name] | {key: tuple(found[name][key]) for key in texts}) for name in labels)
    graph = record["graph"]
    weights = np.zeros((len(labels), len(labels)))
    for source, target, weight in graph["edges"]:
        weights[labels.column(source), labels.column(target)] = weight
    if len(graph["totals"]) != len(labels):
        raise ValueError("its label graph does not fit its labels")
    return WordVectors(values, str(record["vectors"]["source"]), resolved), graph_of(
        weights,
        labels=labels,
        threshold=float(graph["threshold"]),
        totals=graph["totals"],
        source=str(graph["source"]),
    )
