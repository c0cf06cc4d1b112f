"""Which labels does a file join? Edges in CSV, JSON or NPZ, bound by name; and the counts that were published.

    from,to,weight            [{"from": "boat", "to": "sea", "weight": 0.9}]         labels (n,), weights (n, n)
    boat,sea,0.9

A weight is read as ``P(to | from)`` would be: edges below the threshold of the graph are not kept. Without one it is 1.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from msrn.errors import LabelError, MsrnError, Problem, reason
from msrn.labels.graph import LabelGraph
from msrn.labels.space import LabelSpace

__all__ = ["EDGE_SUFFIXES", "read_edges", "read_published", "write_edges"]

Row = tuple[str, Any, Any, Any]
"""Where an edge stands, from, to, weight."""

EDGE_SUFFIXES = (".csv", ".tsv", ".json", ".npz")
_FORMS = "expected .csv or .tsv (from,to[,weight]), .json (a list of such edges) or .npz (labels, weights)"


def read_edges(path: str | os.PathLike[str], labels: LabelSpace) -> npt.NDArray[np.float64]:
    """Weights ``(L, L)`` of the edges from row to column, in the order of ``labels``; 0: no edge.

    Args:
        path: by its suffix ``.csv`` or ``.tsv`` with the columns from, to and maybe weight; ``.json``, a list of edges,
            each an object with these keys or a list of two or three; ``.npz`` with ``labels (n,)`` and
            ``weights (n, n)``, which may hold more labels than ours.
        labels: the label set; a list of edges may name no other.

    Raises:
        LabelError: the file is missing or broken; unknown labels, weights that are no numbers of at least 0, edges
            given twice or from a label to itself: all of them, with their lines.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in EDGE_SUFFIXES:
        raise LabelError(f"a file of edges cannot be {suffix or 'without a suffix'}", str(file), _FORMS)
    if suffix == ".npz":
        return _matrix(file, labels)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabelError(f"cannot read the edges: {reason(error)}", str(file), _FORMS) from error
    except UnicodeDecodeError as error:
        raise LabelError(f"the edges are not UTF-8 text (byte {error.start:,})", str(file), "save as UTF-8") from error
    rows = _json_rows(text, file) if suffix == ".json" else _table_rows(text, file, "\t" if suffix == ".tsv" else ",")
    weights = np.zeros((len(labels), len(labels)))
    problems: list[Problem] = []
    seen: dict[tuple[int, int], str] = {}
    for where, source, target, weight in rows:
        if strange := [name for name in (source, target) if not isinstance(name, str)]:
            problems.append(Problem(f"a label name must be a text, got {strange[0]!r:.80}", where))
            continue
        try:
            pair = labels.column(source), labels.column(target)
            value = 1.0 if weight in (None, "") else float(weight)
        except MsrnError as error:
            problems.append(Problem(error.message, where, error.hint))
            continue
        except (TypeError, ValueError):
            problems.append(Problem(f"expected a number as weight, got {weight!r}", where))
            continue
        if not (np.isfinite(value) and value >= 0):
            problems.append(Problem(f"a weight must be finite and at least 0, got {weight!r}", where))
        elif pair[0] == pair[1]:
            problems.append(Problem(f"an edge from {source!r} to itself", where, "every label has one, of weight 1"))
        elif pair in seen:
            problems.append(Problem(f"the edge from {source!r} to {target!r} is given again", where, seen[pair]))
        else:
            weights[pair] = value
            seen[pair] = f"first at {where}"
    if problems:
        raise LabelError.of(problems, f"the edges of {file} do not hold")
    return weights


def write_edges(graph: LabelGraph, path: str | os.PathLike[str]) -> None:
    """Save the kept edges as ``read_edges`` reads them, by the suffix; the file appears whole or not at all."""
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
            raise LabelError(f"a file of edges cannot be {suffix or 'without a suffix'}", str(file), _FORMS)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(out.getvalue())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def read_published(
    path: str | os.PathLike[str], labels: LabelSpace, *, order: LabelSpace
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Counts ``(L, L)`` and totals ``(L,)`` of a published graph, in the order of ``labels``.

    For parity with published numbers only. Those of NUS-WIDE contain the test labels, and their totals are sums of the
    rows of the counts and 1, so that at the published threshold only 2 edges are left.

    Args:
        path: an ``.npz`` with ``counts (n, n)``, ``totals (n,)`` and maybe ``labels (n,)``.
        labels: ours; the file may hold more.
        order: the labels of a file that names none and has as many rows.

    Raises:
        LabelError: the file is missing or broken, or lacks labels of ours.
    """
    file = Path(path)
    arrays = _arrays(file, ("counts", "totals"), "published counts")
    names = arrays.get("labels")
    rows = len(arrays["totals"]) if arrays["totals"].ndim == 1 else -1
    if names is None and rows != len(order):
        raise LabelError(
            f"the published counts do not say of which labels they are, and {max(rows, 0)} rows are not the "
            f"{len(order)} of NUS-WIDE",
            str(file),
            "add the names in row order: numpy.savez(new_file, **numpy.load(file), labels=numpy.array([...]))",
        )
    theirs = order if names is None else _space(names, file)
    counts, totals = (arrays[name].astype(np.float64) for name in ("counts", "totals"))
    if counts.shape != (len(theirs),) * 2 or totals.shape != (len(theirs),):
        raise LabelError(
            f"expected counts (n, n) and totals (n,) of {len(theirs)} labels, got {counts.shape} and {totals.shape}",
            str(file),
        )
    columns = _aligned(labels, theirs, file)
    return counts[np.ix_(columns, columns)], totals[columns]


# ------------------------------------------------------------------------------------------------------ what files say


def _table_rows(text: str, file: Path, delimiter: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if header not in (["from", "to"], ["from", "to", "weight"]):
            got = delimiter.join(header) or "an empty file"
            raise LabelError(f"expected the columns from, to and maybe weight, got {got}", f"{file}, line 1")
        rows: list[Row] = []
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


def _json_rows(text: str, file: Path) -> list[Row]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno:,}" if isinstance(error, json.JSONDecodeError) else ""
        raise LabelError(f"broken JSON: {error}", f"{file}{line}") from error
    entries = content.get("edges") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise LabelError("expected a list of edges", str(file), '[{"from": "boat", "to": "sea", "weight": 0.9}]')
    rows: list[Row] = []
    problems = []
    for number, entry in enumerate(entries, start=1):
        where = f"{file}, edge {number:,}"
        if isinstance(entry, dict) and {"from", "to"} <= entry.keys() <= {"from", "to", "weight"}:
            rows.append((where, entry["from"], entry["to"], entry.get("weight")))
        elif isinstance(entry, list) and len(entry) in (2, 3):
            rows.append((where, entry[0], entry[1], entry[2] if len(entry) == 3 else None))
        else:
            problems.append(Problem(f"expected from, to and maybe weight, got {entry!r:.80}", where))
    if problems:
        raise LabelError.of(problems, f"the edges of {file} do not hold")
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
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in {*needed, "labels"}}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, BadZipFile) as error:
        raise LabelError(
            f"cannot read the {what}: {reason(error)}", str(file), f"expected an .npz: {', '.join(needed)}"
        ) from error
    if missing := [name for name in needed if name not in arrays]:
        raise LabelError(f"expected the arrays {', '.join(needed)}; missing: {', '.join(missing)}", str(file))
    return arrays


def _space(names: npt.NDArray[Any], file: Path) -> LabelSpace:
    if names.ndim != 1 or names.dtype.kind != "U":
        raise LabelError(f"expected labels (n,) of texts, got {names.shape} {names.dtype}", str(file))
    try:
        return LabelSpace(names.tolist())
    except MsrnError as error:
        raise LabelError(f"the file's labels cannot be: {error.message}", str(file), error.hint) from error


def _aligned(labels: LabelSpace, theirs: LabelSpace, file: Path) -> npt.NDArray[np.intp]:
    try:
        return labels.align(theirs)
    except MsrnError as error:
        problems = [Problem(f"the file lacks a label: {p.message}", str(file), p.hint) for p in error.problems]
        raise LabelError.of(problems, f"{file} lacks labels") from None
