"""What do the labels mean to the network? Words found, neighbours, counts, edges and groups, as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msrn.bundle.label_inputs import read_learnt_labels
from msrn.config import ModelSettings, Settings
from msrn.engine.setup import label_side, read_labels_and_train, read_train_and_val, tell_unknown
from msrn.labels.embedding_tables import SOURCES, open_words
from msrn.labels.embeddings import Resolved, WordVectors
from msrn.labels.graph import LabelGraph
from msrn.labels.graph_io import write_edges
from msrn.labels.neighbours import Near, nearest_labels, nearest_words
from msrn.labels.space import LabelSpace
from msrn.models.heads.msrn import FlattenHead, PerLabelHead
from msrn.models.label_semantics import num_groups_for
from msrn.profiling.summary import short_count
from msrn.visualize.label_graph import draw_graph, write_figure

__all__ = ["LabelPage", "describe_labels", "graph_text", "label_page", "names_text", "page_json", "write_page_files"]


@dataclass(frozen=True, eq=False)
class LabelPage:
    """All there is to say of a label set.

    Fields: labels; pictures and source of the training split; totals ``(L,)`` of its pictures that show a label, zeros
    where that is not known; vectors; near_labels and near_words of each label, empty where the source means nothing by
    nearness or has no words; graph; groups ``(L, G)``, shares of each label in the groups learnt, None without a
    bundle; head, a line on the size of the head.
    """

    labels: LabelSpace
    pictures: int
    source: str
    totals: np.ndarray
    vectors: WordVectors
    near_labels: list[Near]
    near_words: list[Near]
    graph: LabelGraph
    groups: np.ndarray | None = None
    head: str = ""


def label_page(settings: Settings, *, bundle: str | Path | None = None) -> LabelPage:
    """What the pictures that training learns from say of the labels; or what a bundle says, which needs no data.

    Raises:
        DataError, LabelError, DependencyError: as reading the training split, the vectors and the graph does.
        BundleError: as reading the bundle does.
    """
    if bundle is not None:
        learnt = read_learnt_labels(bundle)
        labels, vectors, graph = learnt.labels, learnt.vectors, learnt.graph
        pictures, source, totals, groups, head = learnt.pictures, learnt.source, graph.totals, learnt.assignment, ""
        near_words: list[Near] = []
    else:  # what training learns from: without the part that it holds out, where no validation split is set
        if settings.data.val:
            train = read_labels_and_train(settings)
            tell_unknown("training", train)
        else:
            train = read_train_and_val(settings)[0]
        labels, pictures, source, groups = train.labels, len(train), train.source, None
        vectors, graph = label_side(train, settings.labels, settings.run.seed)
        totals = (train.codes() == 1).sum(axis=0)
        head = _head_line(settings.model, len(labels)) if settings.model.name == "msrn" else ""
        near_words = _near_words(vectors, settings.labels.vectors)
    return LabelPage(
        labels,
        pictures,
        source,
        totals,
        vectors,
        [] if vectors.source in ("onehot", "random") else nearest_labels(labels, vectors.values),
        near_words,
        graph,
        groups,
        head,
    )


def describe_labels(settings: Settings) -> str:
    """How each label's vector was found, how often it occurs, and which labels the graph joins.

    Raises:
        DataError, LabelError, DependencyError: as ``label_page``.
    """
    page = label_page(settings)
    return f"{names_text(page)}\n\n{graph_text(page)}"


def names_text(page: LabelPage) -> str:
    """How each label's vector was found, how often it occurs, and what lies near it."""
    rows: list[tuple[str, ...]] = [("label", "pictures", "found as", "words", "nearest labels", "nearest words")]
    resolved: Sequence[Resolved | None] = page.vectors.resolved or [None] * len(page.labels)
    for column, (name, item) in enumerate(zip(page.labels, resolved, strict=True)):
        words = " + ".join(item.words) or "-" if item else "-"
        if item and item.pieces:
            words += f" ({' '.join(item.pieces)})"
        if item and item.missing:
            words += f"  missing: {', '.join(item.missing)}"
        near = (_near_text(found[column]) if found else "" for found in (page.near_labels, page.near_words))
        total = f"{int(page.totals[column]):,}" if page.totals.any() else "-"
        how = item.how if item else "-"
        rows.append((name, total, how, words, *near))
    first = f"{len(page.labels)} labels, {page.pictures:,} pictures ({page.source}); vectors: {page.vectors.source}"
    return "\n".join([first, "", *_columns(rows, right={1})])


def graph_text(page: LabelPage) -> str:
    """Which labels the graph joins, which it leaves alone, and the groups that were learnt."""
    graph, edges = page.graph, page.graph.edges()
    width = max(map(len, page.labels))
    lines = [f"{len(edges):,} edges A -> B: {graph.rule} ({graph.source})"]
    lines += [f"  {source:{width}} -> {target:{width}}  {weight:.2f}" for source, target, weight in edges]
    if graph.isolated:
        lines += ["", f"without any edge ({len(graph.isolated):,}): {', '.join(graph.isolated)}"]
    if page.groups is not None:
        even = 1 / page.groups.shape[1]
        lines += ["", f"groups learnt: each label where its share is largest ({even:.2f} would be an even share)"]
        for number, members in enumerate(_groups(page), start=1):
            told = ", ".join(f"{name} {share:.2f}" for name, share in members)
            lines.append(f"  {number} ({len(members)} labels): {told or 'no label belongs to it most'}")
    return "\n".join([*lines, *(["", page.head] if page.head else [])])


def page_json(page: LabelPage) -> str:
    """The whole page as one JSON object; its ``edges`` can be given as ``labels.graph_file``."""
    resolved: Sequence[Resolved | None] = page.vectors.resolved or [None] * len(page.labels)
    labels: Sequence[Near | None] = page.near_labels or [None] * len(page.labels)
    words: Sequence[Near | None] = page.near_words or [None] * len(page.labels)
    rows = [
        {
            "label": name,
            "pictures": int(page.totals[column]) if page.totals.any() else None,
            "how": item.how if item else None,
            "words": list(item.words) if item else None,
            "missing": list(item.missing) if item else None,
            "pieces": list(item.pieces) if item else None,
            "nearest_labels": _near_json(labels[column]),
            "nearest_words": _near_json(words[column]),
            "groups": [round(float(share), 6) for share in page.groups[column]] if page.groups is not None else None,
        }
        for column, (name, item) in enumerate(zip(page.labels, resolved, strict=True))
    ]
    content = {
        "pictures": page.pictures,
        "source": page.source,
        "vectors": page.vectors.source,
        "graph": page.graph.source,
        "threshold": page.graph.threshold,
        "labels": rows,
        "edges": [{"from": a, "to": b, "weight": weight} for a, b, weight in page.graph.edges()],
        "isolated": list(page.graph.isolated),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def write_page_files(page: LabelPage, *, draw: str | None, edges: str | None) -> None:
    """Write a picture of the graph and its edges, where a path is given.

    Raises:
        ConfigError, LabelError: a suffix that stands for no format.
    """
    if edges:
        write_edges(page.graph, edges)
    if draw:
        figure = draw_graph(page.graph, totals=page.totals, groups=page.groups, title=page.source)
        write_figure(figure, draw)


def _groups(page: LabelPage) -> list[list[tuple[str, float]]]:
    """For each group the labels that belong to it most, with their share, largest first."""
    if page.groups is None:
        return []
    best = page.groups.argmax(axis=1)
    members = [np.flatnonzero(best == group).tolist() for group in range(page.groups.shape[1])]
    return [
        sorted(
            ((page.labels[column], float(page.groups[column, group])) for column in columns), key=lambda pair: -pair[1]
        )
        for group, columns in enumerate(members)
    ]


def _near_words(vectors: WordVectors, source: str) -> list[Near]:
    """Words of the vocabulary near each label, for sources that have one."""
    if source in SOURCES and not source.startswith("glove"):
        return []
    without = [{item.label, *item.words} for item in vectors.resolved]
    return nearest_words(open_words(source), vectors.values, without=without)


def _near_text(near: Near) -> str:
    return ", ".join(f"{name} {cosine:.2f}" for name, cosine in near)


def _near_json(near: Near | None) -> list[dict[str, Any]] | None:
    return None if near is None else [{"name": name, "cosine": round(cosine, 6)} for name, cosine in near]


def _columns(rows: list[tuple[str, ...]], *, right: set[int]) -> list[str]:
    """Rows of text as columns; those that are empty below their heading are left out."""
    places = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    widths = {place: max(len(row[place]) for row in rows) for place in places}
    return [
        "  ".join(f"{row[place]:{'>' if place in right else '<'}{widths[place]}}" for place in places).rstrip()
        for row in rows
    ]


def _head_line(settings: ModelSettings, labels: int) -> str:
    """How many weights the head takes for this number of labels, and how many the other would."""
    channels = settings.width * len(settings.taps)
    with torch.device("meta"):  # shapes alone: the flatten head may take gigabytes
        heads = {
            "flatten": FlattenHead(
                num_labels=labels, num_groups=num_groups_for(labels, settings.group_ratio), channels=channels
            ),
            "per_label": PerLabelHead(num_labels=labels, channels=channels),
        }
    counts = {name: short_count(sum(weight.numel() for weight in head.parameters())) for name, head in heads.items()}
    other = next(name for name in counts if name != settings.head)
    return f"head: {settings.head}, {counts[settings.head]} weights; --model.head {other} has {counts[other]}"
