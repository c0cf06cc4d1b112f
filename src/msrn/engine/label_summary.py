"""A summary of a label set: how each embedding was found, neighbours, counts, graph edges and label groups."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msrn.bundle.label_inputs import read_label_inputs
from msrn.config import Settings
from msrn.engine.setup import LabelSources, log_unknown, read_labels_and_train, read_train_and_val
from msrn.files import atomic_paths
from msrn.labels.embedding_tables import SOURCES, open_table
from msrn.labels.embeddings import LabelEmbeddings, Resolved
from msrn.labels.graph import LabelGraph
from msrn.labels.graph_io import write_edges
from msrn.labels.neighbours import Neighbours, nearest_labels, nearest_words
from msrn.labels.space import LabelSpace
from msrn.visualize.figures import write_figure
from msrn.visualize.label_graph import draw_graph

__all__ = [
    "LabelSummary",
    "graph_text",
    "names_text",
    "summarize_bundle_labels",
    "summarize_labels",
    "summary_json",
    "write_graph_files",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelSummary:
    """A label set with its embeddings, counts and graph.

    Fields: labels; images, the number of images in the training split; source of that split, a description; totals
    ``(L,)``, its images with each label, zeros where they are unknown; embeddings; near_labels and near_words of each
    label, empty where the embeddings carry no meaning or their source has no words; graph; groups ``(L, G)``, the share
    of each label in each label group, None without a bundle.
    """

    labels: LabelSpace
    images: int
    source: str
    totals: np.ndarray
    embeddings: LabelEmbeddings
    near_labels: tuple[Neighbours, ...]
    near_words: tuple[Neighbours, ...]
    graph: LabelGraph
    groups: np.ndarray | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json``; ``edges`` can be used as ``labels.graph_file``."""
        return {
            "images": self.images,
            "source": self.source,
            "embeddings": self.embeddings.source,
            "graph": self.graph.source,
            "threshold": self.graph.threshold,
            "labels": [self._label_json(column) for column in range(len(self.labels))],
            "edges": [{"from": a, "to": b, "weight": weight} for a, b, weight in self.graph.edges()],
            "isolated": list(self.graph.isolated),
        }

    def _label_json(self, column: int) -> dict[str, Any]:
        item = _resolved(self)[column]
        return {
            "label": self.labels[column],
            "images": int(self.totals[column]) if self.totals.any() else None,
            "how": item.how if item else None,
            "words": list(item.words) if item else None,
            "missing": list(item.missing) if item else None,
            "pieces": list(item.pieces) if item else None,
            "nearest_labels": _near_json(self.near_labels, column),
            "nearest_words": _near_json(self.near_words, column),
            "groups": None if self.groups is None else [round(float(share), 6) for share in self.groups[column]],
        }


def summarize_labels(settings: Settings) -> LabelSummary:
    """Summarize the labels of the training split, without the images that training holds out for validation.

    Raises:
        DataError, LabelError, DependencyError: as reading the training split, the embeddings and the graph does.
    """
    if settings.data.val:
        train = read_labels_and_train(settings)
        log_unknown("training", train)
    else:
        train = read_train_and_val(settings)[0]
    sources = LabelSources.of(train, settings.labels, needs=("embeddings", "graph"), seed=settings.run.seed)
    embeddings, graph = sources.embeddings, sources.graph
    assert embeddings is not None
    assert graph is not None
    return LabelSummary(
        labels=train.labels,
        images=len(train),
        source=train.source,
        totals=(train.codes() == 1).sum(axis=0),
        embeddings=embeddings,
        near_labels=_near_labels(train.labels, embeddings),
        near_words=_near_words(embeddings, settings.labels.embeddings),
        graph=graph,
    )


def summarize_bundle_labels(folder: str | Path) -> LabelSummary:
    """Summarize the labels of a bundle, or of the run folder that contains it; needs no data.

    Raises:
        BundleError: as reading the bundle does.
    """
    kept = read_label_inputs(folder)
    return LabelSummary(
        labels=kept.labels,
        images=kept.images,
        source=kept.source,
        totals=kept.graph.totals,
        embeddings=kept.embeddings,
        near_labels=_near_labels(kept.labels, kept.embeddings),
        near_words=(),
        graph=kept.graph,
        groups=kept.groups,
    )


def names_text(summary: LabelSummary) -> str:
    """A table of the labels: their images, how each embedding was found, and its neighbours."""
    rows: list[tuple[str, ...]] = [("label", "images", "found as", "words", "nearest labels", "nearest words")]
    for column, (name, item) in enumerate(zip(summary.labels, _resolved(summary), strict=True)):
        words = " + ".join(item.words) or "-" if item else "-"
        if item and item.pieces:
            words += f" ({' '.join(item.pieces)})"
        if item and item.missing:
            words += f"  missing: {', '.join(item.missing)}"
        near = (_near_text(found[column]) if found else "" for found in (summary.near_labels, summary.near_words))
        total = f"{int(summary.totals[column]):,}" if summary.totals.any() else "-"
        rows.append((name, total, item.how if item else "-", words, *near))
    source = summary.embeddings.source
    first = f"{len(summary.labels)} labels, {summary.images:,} images ({summary.source}); embeddings: {source}"
    return "\n".join([first, "", *_columns(rows, right={1})])


def graph_text(summary: LabelSummary) -> str:
    """The edges of the graph, the labels without an edge, and the label groups."""
    graph, edges = summary.graph, summary.graph.edges()
    width = max(map(len, summary.labels))
    lines = [f"{len(edges):,} edges A -> B: {graph.rule} ({graph.source})"]
    lines += [f"  {source:{width}} -> {target:{width}}  {weight:.2f}" for source, target, weight in edges]
    if graph.isolated:
        lines += ["", f"labels without an edge ({len(graph.isolated):,}): {', '.join(graph.isolated)}"]
    if summary.groups is not None:
        even = 1 / summary.groups.shape[1]
        lines += ["", f"label groups learned: each label in the group of its largest share (even share: {even:.2f})"]
        for number, members in enumerate(_members(summary.labels, summary.groups), start=1):
            listed = ", ".join(f"{name} {share:.2f}" for name, share in members)
            lines.append(f"  {number} ({len(members)} labels): {listed or 'not the largest share of any label'}")
    return "\n".join(lines)


def summary_json(summary: LabelSummary) -> str:
    """The summary as JSON text."""
    return json.dumps(summary.to_json(), indent=1, ensure_ascii=False, allow_nan=False)


def write_graph_files(summary: LabelSummary, *, draw: str | None, edges: str | None) -> None:
    """Write a drawing of the graph and a file of its edges, each where a path is given.

    Raises:
        ConfigError, LabelError: a suffix names no known format.
    """
    files = [path for path in (edges, draw) if path]
    with atomic_paths(files, parents=True) as partials:  # both or neither
        if edges:
            write_edges(summary.graph, partials[0])
        if draw:
            figure = draw_graph(summary.graph, totals=summary.totals, groups=summary.groups, title=summary.source)
            write_figure(figure, partials[-1])


def _resolved(summary: LabelSummary) -> tuple[Resolved | None, ...]:
    """How each embedding was found; None where a bundle does not record it."""
    return summary.embeddings.resolved or (None,) * len(summary.labels)


def _members(labels: LabelSpace, groups: np.ndarray) -> list[list[tuple[str, float]]]:
    """For each group the labels that have their largest share in it, with that share, largest first."""
    best = groups.argmax(axis=1)
    members = [
        [(labels[column], float(groups[column, group])) for column in np.flatnonzero(best == group).tolist()]
        for group in range(groups.shape[1])
    ]
    return [sorted(found, key=lambda pair: -pair[1]) for found in members]


def _near_labels(labels: LabelSpace, embeddings: LabelEmbeddings) -> tuple[Neighbours, ...]:
    if embeddings.source in ("onehot", "random"):
        return ()
    return tuple(nearest_labels(labels, embeddings.values))


def _near_words(embeddings: LabelEmbeddings, source: str) -> tuple[Neighbours, ...]:
    """Nearest words of the vocabulary, for sources that have one."""
    if source in SOURCES and not source.startswith("glove"):
        return ()
    table = open_table(source)
    if table.whole_names:
        return ()
    exclude = [{item.label, *item.words} for item in embeddings.resolved]
    return tuple(nearest_words(table, embeddings.values, exclude=exclude))


def _near_text(near: Neighbours) -> str:
    return ", ".join(f"{name} {cosine:.2f}" for name, cosine in near)


def _near_json(near: tuple[Neighbours, ...], column: int) -> list[dict[str, Any]] | None:
    return [{"name": name, "cosine": round(cosine, 6)} for name, cosine in near[column]] if near else None


def _columns(rows: list[tuple[str, ...]], *, right: set[int]) -> list[str]:
    """Rows of text as aligned columns; columns that are empty below their heading are left out."""
    places = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    widths = {place: max(len(row[place]) for row in rows) for place in places}
    return [
        "  ".join(f"{row[place]:{'>' if place in right else '<'}{widths[place]}}" for place in places).rstrip()
        for row in rows
    ]
