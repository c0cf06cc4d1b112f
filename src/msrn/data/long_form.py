"""Join the rows of a table that has several rows per image, one per label."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msrn.data.cells import is_blank, items_of, parted
from msrn.data.manifest import require_entries
from msrn.data.states import States
from msrn.data.table import Row, State
from msrn.errors import Problem

__all__ = ["join_labels", "join_states", "joined_columns", "several_rows"]

MIN_SHARE = 0.2


def several_rows(rows: Sequence[Row], image: str, label: str, delimiter: str) -> bool:
    """Whether the table has a row per label: a fifth of its images, and at least two, have several rows.

    A cell that holds several labels speaks against it.
    """
    counts = Counter(_key(row, image) for row in rows)
    repeated = sum(count > 1 for count in counts.values())
    if repeated < max(2, MIN_SHARE * len(counts)):
        return False
    cells = [row.cells.get(label) for row in rows if not is_blank(row.cells.get(label))]
    return all(isinstance(cell, str) and len(parted(cell, delimiter)) == 1 and not _listed(cell) for cell in cells)


def join_labels(rows: Sequence[Row], image: str, label: str, delimiter: str) -> list[Row]:
    """One row per image, whose label cell is the list of the labels of all its rows; blank if all are blank."""
    joined: dict[str, Row] = {}
    for row in rows:
        into = joined.setdefault(_key(row, image), Row(row.where, {**row.cells, label: None}))
        cell = row.cells.get(label)
        if is_blank(cell):
            continue
        names = into.cells[label] or []
        try:
            items = items_of(cell)
        except ValueError:
            items = None
        names += [name for name in (items or parted(str(cell), delimiter)) if name not in names]
        into.cells[label] = names
    return list(joined.values())


def join_states(
    rows: Sequence[Row],
    image: str,
    label: str,
    state: str,
    labels: Sequence[str] | None,
    meanings: States,
    problems: list[Problem],
) -> list[Row]:
    """One row per image in the form of a manifest. A label that no row of the image names is unknown."""
    found: dict[str, dict[str, bool | None]] = {}
    first: dict[str, Row] = {}
    named = dict[str, None]()
    for row in rows:
        key, name = _key(row, image), str(row.cells.get(label) or "").strip()
        first.setdefault(key, row)
        states = found.setdefault(key, {})
        meaning = meanings.of(row.cells.get(state))
        value = {"present": True, "absent": False}.get(meaning)
        if meaning in {"other", "minus_one"}:
            message = f"column {state!r}: expected 1, 0 or nothing (unknown), got {row.cells.get(state)!r}"
            hint = "to read shares from 0.5 on as present, pass --data.reader.threshold 0.5"
            hint = "pass --data.reader.minus_one absent or unknown" if meaning == "minus_one" else hint
            problems.append(Problem(message, row.where, hint))
        elif not name:
            problems.append(Problem(f"column {label!r} names no label", row.where))
        elif value is not None and states.get(name, value) != value:
            problems.append(Problem(f"label {name!r} of this image is both present and absent", row.where))
        else:
            states[name] = value
            named[name] = None
    require_entries(len(found), len(named), rows[0].where if rows else "")
    every = [*named, *(name for name in labels or () if name not in named)]
    joined = []
    for key, states in found.items():
        cells: dict[str, Any] = {image: first[key].cells[image]}
        cells["positives"] = [name for name, value in states.items() if value]
        cells["unknown"] = [name for name in every if states.get(name) is None]
        joined.append(Row(first[key].where, cells))
    return joined


def joined_columns(rows: Sequence[Row], states: Sequence[State], image: str) -> tuple[list[Row], list[State], str]:
    """One row per image, of a table with a column per label, and a note.

    What one row knows and another does not is known; what two rows contradict is unknown.
    """
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(_key(row, image), []).append(number)
    joined: list[State] = []
    contradicted = 0
    for numbers in groups.values():
        if len(numbers) == 1:
            joined.append(states[numbers[0]])
            continue
        parts = [(set(states[n][0]), set(states[n][2] or ())) for n in numbers]
        named = dict.fromkeys(name for n in numbers for name in (*states[n][0], *(states[n][2] or ())))
        shown = {name for present, _ in parts for name in present}
        absent = {name for name in named if any(name not in present | unknown for present, unknown in parts)}
        contradicted += len(shown & absent)
        unknown_to_all = {name for name in named if name not in shown | absent}
        positives = tuple(name for name in named if name in shown - absent)
        joined.append((positives, (), tuple(name for name in named if name in unknown_to_all | (shown & absent))))
    note = f"rows joined by image ({len(rows):,} rows, {len(groups):,} images)"
    note += f", {contradicted:,} labels unknown because rows contradict each other" if contradicted else ""
    return [rows[numbers[0]] for numbers in groups.values()], joined, note


def _key(row: Row, image: str) -> str:
    return posixpath.normpath(str(row.cells.get(image) or ""))


def _listed(cell: Any) -> bool:
    try:
        return items_of(cell) is not None
    except ValueError:
        return True
