"""Read and write the edges of a label graph (CSV, JSON, NPZ), and read published counts; all bound by name.

    from,to,weight            [{"from": "boat", "to": "sea", "weight": 0.9}]         labels (n,), weights (n, n)
    boat,sea,0.9

A weight has the meaning of ``P(to | from)``: edges below the threshold of the graph are dropped. The default is 1.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from msrn.errors import LabelError, MsrnError, Problem, reason
from msrn.files import parse_json, write_atomically
from msrn.labels.array_files import read_arrays, texts_of
from msrn.labels.graph import LabelGraph
from msrn.labels.published import PUBLISHED_ORDERS
from msrn.labels.space import LabelSpace, require_matrix

__all__ = ["EDGE_SUFFIXES", "read_edges", "read_published_counts", "write_edges"]

_Edge = tuple[str, Any, Any, Any]
"""Place in the file, from, to, weight."""

EDGE_SUFFIXES = (".csv", ".tsv", ".json", ".npz")
_EXPECTED = "expected .csv or .tsv (from,to[,weight]), .json (a list of such edges) or .npz (labels, weights)"


def read_edges(path: str | os.PathLike[str], labels: LabelSpace) -> npt.NDArray[np.float64]:
    """Weights ``(L, L)`` of the edges from row to column, in the order of ``labels``; 0: no edge.

    Args:
        path: ``.csv`` or ``.tsv`` with the columns from, to and optionally weight; ``.json``, a list of edges, each an
            object with these keys or a list of two or three values; or ``.npz`` with ``labels (n,)`` and
            ``weights (n, n)``, which may contain more labels.
        labels: the label set; a list of edges may name no other labels.

    Raises:
        LabelError: the file is missing or broken, or edges have unknown labels, weights that are not numbers of at
            least 0, are repeated, or join a label to itself. All broken edges are reported together, with their lines.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in EDGE_SUFFIXES:
        raise LabelError(_unknown_suffix(suffix), str(file), _EXPECTED)
    if suffix == ".npz":
        return _matrix(file, labels)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabelError(f"cannot read the edges: {reason(error)}", str(file), _EXPECTED) from error
    except UnicodeDecodeError as error:
        raise LabelError(
            f"the edges are not UTF-8 text (byte {error.start:,})", str(file), "save the file as UTF-8"
        ) from error
    rows = _json_rows(text, file) if suffix == ".json" else _table_rows(text, file, "\t" if suffix == ".tsv" else ",")
    require_matrix(len(labels))
    weights = np.zeros((len(labels), len(labels)))
    problems: list[Problem] = []
    seen: dict[tuple[int, int], str] = {}
    for where, source, target, weight in rows:
        if others := [name for name in (source, target) if not isinstance(name, str)]:
            problems.append(Problem(f"a label name must be a string, got {others[0]!r:.80}", where))
            continue
        try:
            pair = labels.column(source), labels.column(target)
            value = 1.0 if weight in (None, "") else float(weight)
        except MsrnError as error:
            problems.append(Problem(error.message, where, error.hint))
            continue
        except (TypeError, ValueError, OverflowError):
            problems.append(Problem(f"expected a number as the weight, got {weight!r}", where))
            continue
        if not (np.isfinite(value) and value >= 0):
            problems.append(Problem(f"a weight must be finite and at least 0, got {weight!r}", where))
        elif pair[0] == pair[1]:
            problems.append(
                Problem(
                    f"an edge from {source!r} to itself", where, "remove it; every label has a self-loop of weight 1"
                )
            )
        elif pair in seen:
            problems.append(Problem(f"the edge from {source!r} to {target!r} is repeated", where, seen[pair]))
        else:
            weights[pair] = value
            seen[pair] = f"first at {where}"
    if problems:
        raise LabelError.of(problems, f"the edges of {file} are invalid")
    return weights


def write_edges(graph: LabelGraph, path: str | os.PathLike[str]) -> None:
    """Write the edges atomically, in the format that the suffix names; ``read_edges`` reads them back.

    Raises:
        LabelError: the suffix is unknown.
    """
    file = Path(path)
    edges = graph.edges()
    out = io.BytesIO()
    match file.suffix.lower():
        case ".npz":
            weights = np.where(graph.links > 0, graph.weights, 0.0)
            np.savez_compressed(out, labels=np.asarray(graph.labels.names), weights=weights)
        case ".json":
            rows = [{"from": source, "to": target, "weight": weight} for source, target, weight in edges]
            lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
            out.write(f"[\n{lines}\n]\n".encode())
        case ".csv" | ".tsv" as suffix:
            table = io.StringIO(newline="")
            writer = csv.writer(table, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
            writer.writerows([("from", "to", "weight"), *edges])
            out.write(table.getvalue().encode())
        case suffix:
            raise LabelError(_unknown_suffix(suffix), str(file), _EXPECTED)
    write_atomically(file, out.getvalue(), parents=True)


def read_published_counts(
    path: str | os.PathLike[str], labels: LabelSpace
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Counts ``(L, L)`` and totals ``(L,)`` of a published graph, in the order of ``labels``.

    Only for parity with published numbers. The counts of NUS-WIDE contain the test labels, and its totals are row sums
    of the counts plus 1, so only 2 edges remain at the published threshold.

    Args:
        path: an ``.npz`` with ``counts (n, n)``, ``totals (n,)`` and optionally ``labels (n,)``. Published files have
            no labels; their rows stand in the order of ``PUBLISHED_ORDERS``, recognised by the number of rows.
        labels: the label set; the file may contain more labels.

    Raises:
        LabelError: the file is missing or broken, or lacks labels.
    """
    file = Path(path)
    arrays = _arrays(file, ("counts", "totals"), "published counts")
    theirs = _space(arrays["labels"], file) if "labels" in arrays else _published_space(arrays["totals"], file)
    counts, totals = (arrays[name].astype(np.float64) for name in ("counts", "totals"))
    if counts.shape != (len(theirs),) * 2 or totals.shape != (len(theirs),):
        raise LabelError(
            f"expected counts (n, n) and totals (n,) of {len(theirs)} labels, got {counts.shape} and {totals.shape}",
            str(file),
        )
    columns = _aligned(labels, theirs, file)
    return counts[np.ix_(columns, columns)], totals[columns]


# ------------------------------------------------------------------------------------------------------ file formats


def _table_rows(text: str, file: Path, delimiter: str) -> list[_Edge]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if header not in (["from", "to"], ["from", "to", "weight"]):
            got = delimiter.join(header) or "an empty file"
            raise LabelError(f"expected the columns from, to and optionally weight, got {got}", f"{file}, line 1")
        rows: list[_Edge] = []
        for row in reader:
            where = f"{file}, line {reader.line_num:,}"
            fields = [field.strip() for field in row]
            if len(fields) != len(header) and any(fields):
                raise LabelError(f"expected {len(header)} fields, got {len(fields)}", where)
            if any(fields):
                rows.append((where, fields[0], fields[1], fields[2] if len(fields) == 3 else None))
    except csv.Error as error:
        raise LabelError(f"broken CSV: {error}", f"{file}, line {reader.line_num:,}") from error
    return rows


def _json_rows(text: str, file: Path) -> list[_Edge]:
    try:
        content = parse_json(text)
    except ValueError as error:
        line = f", line {error.lineno:,}" if isinstance(error, json.JSONDecodeError) else ""
        raise LabelError(f"broken JSON: {error}", f"{file}{line}") from error
    entries = content.get("edges") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise LabelError("expected a list of edges", str(file), '[{"from": "boat", "to": "sea", "weight": 0.9}]')
    rows: list[_Edge] = []
    problems = []
    for number, entry in enumerate(entries, start=1):
        where = f"{file}, edge {number:,}"
        if isinstance(entry, dict) and {"from", "to"} <= entry.keys() <= {"from", "to", "weight"}:
            rows.append((where, entry["from"], entry["to"], entry.get("weight")))
        elif isinstance(entry, list) and len(entry) in (2, 3):
            rows.append((where, entry[0], entry[1], entry[2] if len(entry) == 3 else None))
        else:
            problems.append(Problem(f"expected from, to and optionally weight, got {entry!r:.80}", where))
    if problems:
        raise LabelError.of(problems, f"the edges of {file} are invalid")
    return rows


def _matrix(file: Path, labels: LabelSpace) -> npt.NDArray[np.float64]:
    arrays = _arrays(file, ("labels", "weights"), "edges")
    theirs, weights = _space(arrays["labels"], file), arrays["weights"]
    if weights.shape != (len(theirs),) * 2 or weights.dtype.kind not in "biuf":
        raise LabelError(
            f"expected weights (n, n) of {len(theirs)} labels, got {weights.shape} {weights.dtype}", str(file)
        )
    columns = _aligned(labels, theirs, file)
    ours = weights[np.ix_(columns, columns)].astype(np.float64)
    np.fill_diagonal(ours, 0.0)
    wrong = np.argwhere(~(np.isfinite(ours) & (ours >= 0)))
    if len(wrong):
        i, j = wrong[0].tolist()
        raise LabelError(
            f"weights must be finite and at least 0, got {ours[i, j]} from {labels[i]!r} to {labels[j]!r}",
            f"{file}; {len(wrong):,} such weights",
        )
    return ours


def _arrays(file: Path, needed: tuple[str, ...], what: str) -> dict[str, npt.NDArray[Any]]:
    try:
        arrays = read_arrays(file, {*needed, "labels"})
    except (OSError, ValueError) as error:
        raise LabelError(
            f"cannot read the {what}: {reason(error)}", str(file), f"expected an .npz: {', '.join(needed)}"
        ) from error
    if missing := [name for name in needed if name not in arrays]:
        raise LabelError(f"expected the arrays {', '.join(needed)}; missing: {', '.join(missing)}", str(file))
    return arrays


def _space(names: npt.NDArray[Any], file: Path) -> LabelSpace:
    try:
        return LabelSpace(texts_of(names))
    except ValueError as error:
        raise LabelError(f"the array 'labels': {error}", str(file)) from error
    except MsrnError as error:
        raise LabelError(f"the file's labels are invalid: {error.message}", str(file), error.hint) from error


def _published_space(totals: npt.NDArray[Any], file: Path) -> LabelSpace:
    for order in PUBLISHED_ORDERS.values():
        if totals.shape == (len(order),):
            return LabelSpace(order)
    sizes = ", ".join(f"{name} {len(order)}" for name, order in PUBLISHED_ORDERS.items())
    raise LabelError(
        f"the published counts have no label names, and totals {totals.shape} are not those of a published vocabulary "
        f"({sizes})",
        str(file),
        "add the names in row order: numpy.savez(new_file, **numpy.load(file), labels=numpy.array([...]))",
    )


def _aligned(labels: LabelSpace, theirs: LabelSpace, file: Path) -> npt.NDArray[np.intp]:
    try:
        return labels.align(theirs)
    except MsrnError as error:
        problems = [Problem(f"the file lacks a label: {p.message}", str(file), p.hint) for p in error.problems]
        raise LabelError.of(problems, f"{file} lacks labels") from None


def _unknown_suffix(suffix: str) -> str:
    return f"cannot read or write edges as {suffix}" if suffix else "the file of edges has no suffix"
