"""The page of a data set: one HTML file with numbers, charts and sample images, which needs no other file.

``templates/data_set.html`` draws the charts from the geometry of ``charts``, and escapes every name. The label graph is
the drawing of ``visualize.label_graph``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from msrn.audit.check import in_order
from msrn.audit.probe import image_size
from msrn.data.decode import open_image
from msrn.data.manifest import DIFFICULT, POSITIVE, Manifest
from msrn.errors import DataError
from msrn.labels.cooccurrence import conditional, cooccurrence
from msrn.labels.graph import LabelGraph, graph_of
from msrn.labels.graph import threshold as edges_above
from msrn.labels.space import LabelSpace
from msrn.report.charts import heat_map, labels_per_image, size_plot
from msrn.report.page import render_page
from msrn.visualize.label_graph import graph_svg

__all__ = ["show_data"]

MAX_BARS, MAX_HEAT, MAX_NODES = 60, 40, 60
"""Labels drawn as bars, in the heat map, and in the graph: the most frequent ones."""

MAX_SAMPLES, MAX_MEASURED, MAX_NAMES = 400, 10_000, 200
"""Images shown, images measured, and isolated labels listed."""

HEIGHT, MAX_WIDTH = 112, 200
"""Of a thumbnail, in pixels: a page of 400 stays below 4 MB."""

Row = dict[str, Any]


def show_data(
    manifests: Sequence[Manifest],
    *,
    title: str = "",
    samples: int = 6,
    threshold: float = 0.4,
    seed: int = 0,
    workers: int = 2,
) -> str:
    """The page as HTML.

    Args:
        manifests: splits; the label graph and the samples are those of the first training split, by ``split_rank``.
            Difficult objects count as present.
        title: of the page; empty: the name of the folder of the first split.
        samples: images per label; if there were more than 400 images, the most frequent labels are shown.
        threshold: smallest ``P(j | i)`` that makes an edge of the label graph, in (0, 1].
        seed: of the choice of samples, and of the images that are measured if there are more than 10,000.
        workers: threads that read images.

    Raises:
        DataError: there is no label.
        LabelError: ``threshold`` is out of range.
    """
    from markupsafe import Markup

    splits, _ = in_order(manifests)
    names = LabelSpace(dict.fromkeys(name for split in splits for name in split.labels))
    first = _bound(splits[0], names)
    counted = [_counts(_bound(split, names)) for split in splits]
    order = np.lexsort((np.arange(len(names)), -counted[0], -np.sum(counted, 0)))
    order = order[np.argsort(-counted[0][order], kind="stable")]
    counts, totals, known, _ = cooccurrence(first.targets("positive"))
    shares = conditional(counts, known)
    links = _links(shares, threshold)
    isolated = [column for column in order.tolist() if not links[column].any() and not links[:, column].any()]
    rng = np.random.default_rng([seed, 40])
    with ThreadPoolExecutor(max(1, workers)) as pool:
        sizes, unread = _sizes(splits, rng, pool)
        grids = _samples(first, order, samples, rng, pool)
    heat, nodes = order[:MAX_HEAT].tolist(), _nodes(order, links)
    graph = graph_svg(_part(shares, counts, totals, names, nodes, threshold), totals=totals[nodes]) if nodes else ""
    page = {
        "title": title or splits[0].root.resolve().name,
        "splits": [
            {"name": split.split, "images": len(split), "source": split.source, "number": number % 4}
            for number, split in enumerate(splits)
        ],
        "tiles": _tiles(splits, counted[0]),
        "rows": _rows(names, order, counted, splits, isolated),
        "max_bars": MAX_BARS,
        "heat": heat_map([names[column] for column in heat], counts, totals, shares, heat),
        "graph": Markup(graph),
        "node_count": len(nodes),
        "isolated": [names[column] for column in isolated[:MAX_NAMES]],
        "isolated_count": len(isolated),
        "label_count": len(names),
        "threshold": threshold,
        "edge_count": int(links.sum()),
        "histogram": labels_per_image(splits),
        "sizes": size_plot(sizes),
        "unread": unread,
        "measured": min(MAX_MEASURED, sum(map(len, splits))),
        "images": sum(map(len, splits)),
        "grids": grids,
        "samples": samples,
    }
    return render_page("data_set.html", page)


def _bound(split: Manifest, names: LabelSpace) -> Manifest:
    return Manifest(split.records, names, split.split, split.root, split.source)


def _counts(split: Manifest) -> np.ndarray:
    """``(L,)`` images that show each label, as a difficult object or not."""
    codes = split.codes()
    counts: np.ndarray = ((codes == POSITIVE) | (codes == DIFFICULT)).sum(0)
    return counts


def _links(shares: np.ndarray, threshold: float) -> np.ndarray:
    """``(L, L)`` zeros and ones: edges from row to column, none from a label to itself."""
    links: np.ndarray = edges_above(shares, threshold)
    np.fill_diagonal(links, 0)
    return links


def _tiles(splits: Sequence[Manifest], counts: np.ndarray) -> list[tuple[str, str, str]]:
    """A number, what it counts, and a remark, for each tile."""
    first = splits[0]
    shown = [record for split in splits for record in split.records]
    mean = sum(len(record.positives) + len(record.difficult) for record in shown) / len(shown)
    without = sum(not record.positives and not record.difficult for record in shown)
    combinations = len({frozenset((*record.positives, *record.difficult)) for record in shown})
    seen = counts[counts > 0]
    tiles = [
        (f"{len(shown):,}", "images", f"in {len(splits)} split{'s' * (len(splits) > 1)}"),
        (f"{len(first.labels):,}", "labels", f"{int((counts == 0).sum()):,} without an image in {first.split}"),
        (f"{mean:.2f}", "labels per image", f"{combinations:,} different combinations"),
        (
            f"{without:,}",
            "images without a label",
            f"{100 * without / len(shown):.1f} % of all" if without else "every image has one",
        ),
    ]
    if len(seen):
        ratio = seen.max() / seen.min()
        remark = f"{int(seen.max()):,} images to {int(seen.min()):,}, in {first.split}"
        tiles.append((f"{ratio:,.1f} : 1", "most frequent to rarest", remark))
    unknown = sum(len(record.unknown) for record in shown)
    if unknown:
        every = sum(len(split) * len(split.labels) for split in splits)
        tiles.append(
            (f"{100 * unknown / every:.1f} %", "of all label states are unknown", "masked in loss and metrics")
        )
    return tiles


def _rows(
    names: LabelSpace, order: np.ndarray, counted: Sequence[np.ndarray], splits: Sequence[Manifest], isolated: list[int]
) -> list[Row]:
    shares = np.array([counts / len(split) for counts, split in zip(counted, splits, strict=True)])
    widest, without_edge = max(shares.max(), 1e-9), set(isolated)
    return [
        {
            "name": names[column],
            "isolated": column in without_edge,
            "bars": [
                {
                    "count": int(counted[number][column]),
                    "share": round(100 * float(shares[number, column]), 2),
                    "width": round(100 * float(shares[number, column] / widest), 2),
                    "number": number % 4,
                    "split": split.split,
                }
                for number, split in enumerate(splits)
            ],
        }
        for column in order.tolist()
    ]


def _nodes(order: np.ndarray, links: np.ndarray) -> list[int]:
    """The most frequent labels with an edge, without those whose edges all lead to labels that are not among them."""
    linked = [column for column in order.tolist() if links[column].any() or links[:, column].any()][:MAX_NODES]
    part = links[np.ix_(linked, linked)]
    return [column for place, column in enumerate(linked) if part[place].any() or part[:, place].any()]


def _part(
    shares: np.ndarray, counts: np.ndarray, totals: np.ndarray, names: LabelSpace, nodes: list[int], threshold: float
) -> LabelGraph:
    """The label graph of some labels."""
    place = np.ix_(nodes, nodes)
    labels = LabelSpace(names[column] for column in nodes)
    return graph_of(shares[place], labels=labels, threshold=threshold, counts=counts[place], totals=totals[nodes])


def _sizes(
    splits: Sequence[Manifest], rng: np.random.Generator, pool: ThreadPoolExecutor
) -> tuple[list[tuple[int, int]], int]:
    """Sizes of images, and the number of images whose size could not be read."""
    paths = [str(split.path(index)) for split in splits for index in range(len(split))]
    if len(paths) > MAX_MEASURED:
        paths = [paths[index] for index in np.sort(rng.choice(len(paths), MAX_MEASURED, replace=False))]
    found = list(pool.map(image_size, paths))
    return [size for size in found if size], sum(size is None for size in found)


def _samples(
    split: Manifest,
    order: np.ndarray,
    samples: int,
    rng: np.random.Generator,
    pool: ThreadPoolExecutor,
) -> list[Row]:
    """A row of images for each label, and one for images without labels; few images are shown twice."""
    if samples < 1:
        return []
    columns = order[: max(1, MAX_SAMPLES // samples)]
    having: dict[str, list[int]] = {split.labels[column]: [] for column in columns.tolist()}
    none = []
    for index, record in enumerate(split.records):
        shown = (*record.positives, *record.difficult)
        for name in shown:
            if name in having:
                having[name].append(index)
        if not shown:
            none.append(index)
    used: set[int] = set()
    rows: list[tuple[str | None, int, list[int]]] = []
    # Rare labels choose first, because frequent labels have other images to show.
    every: list[tuple[str | None, list[int]]] = [*having.items(), (None, none)]
    for label, indices in sorted(every, key=lambda item: len(item[1])):
        shuffled = rng.permutation(indices).astype(int).tolist()
        chosen = sorted(shuffled, key=lambda index: index in used)[:samples]
        used.update(chosen)
        rows.append((label, len(indices), chosen))
    place: dict[str | None, int] = {label: number for number, (label, _) in enumerate(every)}
    rows.sort(key=lambda row: place[row[0]])
    thumbnails = dict(zip(used, pool.map(lambda index: _thumbnail(split, index), used), strict=True))
    return [
        {"name": label, "count": count, "images": [thumbnails[index] for index in chosen]}
        for label, count, chosen in rows
        if count
    ]


def _thumbnail(split: Manifest, index: int) -> Row:
    """An image as a data URL (empty if it cannot be read), with its name and labels."""
    record = split.records[index]
    labels = ", ".join((*record.positives, *record.difficult)) or "no label"
    row: Row = {"image": record.image, "labels": labels, "url": "", "width": HEIGHT, "height": HEIGHT}
    try:
        image = open_image(split.path(index), min_side=2 * HEIGHT)
    except DataError:
        return row
    width = max(1, min(MAX_WIDTH, round(image.width * HEIGHT / image.height)))
    height = max(1, min(HEIGHT, round(image.height * width / image.width)))
    out = io.BytesIO()
    image.resize((width, height)).save(out, "JPEG", quality=75, optimize=True)
    url = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
    return row | {"url": url, "width": width, "height": height}
