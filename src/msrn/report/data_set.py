"""What is in a data set, at a glance? One HTML page that needs no other file: numbers, figures and samples.

The figures are drawn by ``show.html``, which escapes every name; their geometry is made in ``figures``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import numpy as np

from msrn.audit.check import in_order
from msrn.audit.probe import picture_size
from msrn.data.manifest import DIFFICULT, POSITIVE, Manifest
from msrn.data.transforms import open_image
from msrn.errors import DataError
from msrn.labels.graph import conditional, cooccurrence, threshold
from msrn.labels.space import LabelSpace
from msrn.report.charts import graph_figure, heat_figure, labels_per_picture, size_figure

__all__ = ["show_data"]

MOST_BARS, MOST_HEAT, MOST_NODES = 60, 40, 60
"""Labels drawn at most, the most frequent: as bars, in the heat map, and as nodes."""

MOST_SAMPLES, MOST_SIZES, MOST_NAMES = 400, 10_000, 200
"""Pictures shown, pictures measured, and isolated labels named, at most."""

HEIGHT, MOST_WIDTH = 112, 200
"""Of a thumbnail, in pixels: a page of 400 stays below 4 MB."""

Row = dict[str, Any]


def show_data(
    manifests: Sequence[Manifest],
    *,
    title: str = "",
    samples: int = 6,
    least: float = 0.4,
    seed: int = 0,
    workers: int = 2,
) -> str:
    """The page.

    Args:
        manifests: splits; the label graph and the samples are of the first that trains, by ``split_rank``. Difficult
            objects count as present.
        title: of the page; empty: the name of the first split's folder.
        samples: pictures per label; fewer labels are shown if they were more than 400 together.
        least: ``P(j | i)`` that makes an edge of the label graph, in (0, 1].
        seed: of the choice of samples, and of the pictures that are measured where there are more than 10,000.
        workers: threads that read pictures.

    Raises:
        DataError: there is no label. LabelError: ``least`` is out of range.
    """
    from jinja2 import Environment, StrictUndefined

    splits, _ = in_order(manifests)
    names = LabelSpace(dict.fromkeys(name for split in splits for name in split.labels))
    first = _bound(splits[0], names)
    counted = [_counts(_bound(split, names)) for split in splits]
    order = np.lexsort((np.arange(len(names)), -counted[0], -np.sum(counted, 0)))
    order = order[np.argsort(-counted[0][order], kind="stable")]
    counts, totals, known, _ = cooccurrence(first.targets("positive"))
    shares = conditional(counts, known)
    edges = threshold(shares, least)
    np.fill_diagonal(edges, 0)
    alone = [column for column in order.tolist() if not edges[column].any() and not edges[:, column].any()]
    rng = np.random.default_rng([seed, 40])
    with ThreadPoolExecutor(max(1, workers)) as pool:
        sizes, unread = _sizes(splits, rng, pool)
        grids = _samples(first, order, samples, rng, pool)
    heat, nodes = order[:MOST_HEAT].tolist(), _nodes(order, alone)
    page = {
        "title": title or splits[0].root.resolve().name,
        "splits": [_facts(split, number, names) for number, split in enumerate(splits)],
        "tiles": _tiles(splits, counted[0]),
        "rows": _rows(names, order, counted, splits, alone),
        "bars": MOST_BARS,
        "heat": heat_figure([names[column] for column in heat], counts, totals, shares, heat),
        "graph": graph_figure(names, counts, totals, shares, edges, nodes),
        "alone": [names[column] for column in alone[:MOST_NAMES]],
        "alone_count": len(alone),
        "label_count": len(names),
        "least": least,
        "edge_count": int(edges.sum()),
        "histogram": labels_per_picture(splits),
        "sizes": size_figure(sizes),
        "unread": unread,
        "measured": min(MOST_SIZES, sum(map(len, splits))),
        "pictures": sum(map(len, splits)),
        "grids": grids,
        "samples": samples,
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = (resources.files("msrn.report") / "templates" / "data_set.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(page)


def _bound(split: Manifest, names: LabelSpace) -> Manifest:
    return Manifest(split.records, names, split.split, split.root, split.source)


def _counts(split: Manifest) -> np.ndarray:
    """``(L,)`` pictures that show a label, difficult ones included."""
    codes = split.codes()
    counts: np.ndarray = ((codes == POSITIVE) | (codes == DIFFICULT)).sum(0)
    return counts


def _facts(split: Manifest, number: int, names: LabelSpace) -> Row:
    return {"name": split.split, "pictures": len(split), "source": split.source, "number": number % 4}


def _tiles(splits: Sequence[Manifest], counts: np.ndarray) -> list[tuple[str, str, str]]:
    """Number, what it counts, and a remark."""
    first = splits[0]
    shown = [record for split in splits for record in split.records]
    mean = sum(len(record.positives) + len(record.difficult) for record in shown) / len(shown)
    without = sum(not record.positives and not record.difficult for record in shown)
    combinations = len({frozenset((*record.positives, *record.difficult)) for record in shown})
    seen = counts[counts > 0]
    tiles = [
        (f"{len(shown):,}", "pictures", f"in {len(splits)} split{'s' * (len(splits) > 1)}"),
        (f"{len(first.labels):,}", "labels", f"{int((counts == 0).sum()):,} without a picture in {first.split}"),
        (f"{mean:.2f}", "labels per picture", f"{combinations:,} different sets of labels"),
        (
            f"{without:,}",
            "pictures without a label",
            f"{100 * without / len(shown):.1f} % of all" if without else "every picture has one",
        ),
    ]
    if len(seen):
        ratio = seen.max() / seen.min()
        remark = f"{int(seen.max()):,} pictures to {int(seen.min()):,}, in {first.split}"
        tiles.append((f"{ratio:,.1f} : 1", "most frequent to rarest", remark))
    unknown = sum(len(record.unknown) for record in shown)
    if unknown:
        every = sum(len(split) * len(split.labels) for split in splits)
        tiles.append((f"{100 * unknown / every:.1f} %", "of all label states unknown", "masked in loss and metrics"))
    return tiles


def _rows(
    names: LabelSpace, order: np.ndarray, counted: Sequence[np.ndarray], splits: Sequence[Manifest], alone: list[int]
) -> list[Row]:
    shares = np.array([counts / len(split) for counts, split in zip(counted, splits, strict=True)])
    widest = max(shares.max(), 1e-9)
    return [
        {
            "name": names[column],
            "alone": column in alone,
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


def _nodes(order: np.ndarray, alone: list[int]) -> list[int]:
    """Labels to draw as nodes: all, or if these are too many, the most frequent ones with an edge."""
    if len(order) <= MOST_NODES:
        return list(order.tolist())
    hidden = set(alone)
    return [column for column in order.tolist() if column not in hidden][:MOST_NODES]


def _sizes(
    splits: Sequence[Manifest], rng: np.random.Generator, pool: ThreadPoolExecutor
) -> tuple[list[tuple[int, int]], int]:
    """Sizes of pictures, and of how many it could not be read."""
    paths = [str(split.path(index)) for split in splits for index in range(len(split))]
    if len(paths) > MOST_SIZES:
        paths = [paths[index] for index in np.sort(rng.choice(len(paths), MOST_SIZES, replace=False))]
    found = list(pool.map(picture_size, paths))
    return [size for size in found if size], sum(size is None for size in found)


def _samples(
    split: Manifest,
    order: np.ndarray,
    samples: int,
    rng: np.random.Generator,
    pool: ThreadPoolExecutor,
) -> list[Row]:
    """A row of pictures for each label, and one for those without any; a picture is shown twice only for want."""
    if samples < 1:
        return []
    columns = order[: max(1, MOST_SAMPLES // samples)]
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
    # Rare labels choose first: frequent ones have others to show.
    every: list[tuple[str | None, list[int]]] = [*having.items(), (None, none)]
    for label, indices in sorted(every, key=lambda item: len(item[1])):
        lot = rng.permutation(indices).astype(int).tolist()
        chosen = sorted(lot, key=lambda index: index in used)[:samples]
        used.update(chosen)
        rows.append((label, len(indices), chosen))
    place: dict[str | None, int] = {label: number for number, (label, _) in enumerate(every)}
    rows.sort(key=lambda row: place[row[0]])
    thumbnails = dict(zip(used, pool.map(lambda index: _thumbnail(split, index), used), strict=True))
    return [
        {"name": label, "count": count, "pictures": [thumbnails[index] for index in chosen]}
        for label, count, chosen in rows
        if count
    ]


def _thumbnail(split: Manifest, index: int) -> Row:
    """A picture as a data URL (empty: it cannot be read), with what is said of it."""
    record = split.records[index]
    said = ", ".join((*record.positives, *record.difficult)) or "no label"
    row: Row = {"image": record.image, "labels": said, "url": "", "width": HEIGHT, "height": HEIGHT}
    try:
        image = open_image(split.picture(index), least_side=2 * HEIGHT)
    except DataError:
        return row
    width = max(1, min(MOST_WIDTH, round(image.width * HEIGHT / image.height)))
    height = max(1, min(HEIGHT, round(image.height * width / image.width)))
    out = io.BytesIO()
    image.resize((width, height)).save(out, "JPEG", quality=75, optimize=True)
    url = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
    return row | {"url": url, "width": width, "height": height}
