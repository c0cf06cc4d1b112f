"""How are findings told: to people as a table, to machines as JSON, to ``msrn data split`` as groups?"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from msrn.audit.check import Check
from msrn.audit.issues import CODES, Finding

__all__ = ["check_json", "check_text", "groups_text", "printable", "write_text"]

COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def check_json(check: Check) -> str:
    """One JSON object; ``docs/guides/check-your-data.md`` has the schema. ASCII only: names need not be text."""
    splits = [
        {"name": each.split, "source": each.source, "pictures": len(each), "labels": len(each.labels), "rank": rank}
        for each, rank in zip(check.manifests, check.ranks, strict=True)
    ]
    findings = [
        {
            "severity": each.severity,
            "code": each.code,
            "message": each.message,
            "hint": each.hint,
            "pictures": [picture._asdict() for picture in each.pictures],
            "labels": list(each.labels),
        }
        for each in check.findings
    ]
    head = {"msrn_data_check": 1, "near_bits": check.near_bits, "splits": splits, "counts": check.counts}
    return json.dumps(head | {"findings": findings}, indent=1)


def check_text(check: Check, *, examples: int = 3, width: int = 100, colour: bool = False) -> str:
    """A table with one row per code, the worst first: how often, what, the first examples, and what to do."""
    sizes = ", ".join(f"{printable(each.split)} {len(each):,}" for each in check.manifests)
    labels = len({name for each in check.manifests for name in each.labels})
    head = f"{len(check.pictures):,} pictures ({sizes}), {labels:,} labels"
    if not check.findings:
        return f"{head}: nothing found"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    table.add_column("severity", no_wrap=True)
    table.add_column("code", no_wrap=True)
    table.add_column("found", justify="right", no_wrap=True)
    table.add_column("what, examples, and what to do", overflow="fold")
    for code, kind in CODES.items():
        found = [each for each in check.findings if each.code == code]
        if found:
            said = Text().append(kind.what, style="bold")
            for each in found[:examples]:
                said.append(f"\n{_example(each)}")
            if len(found) > examples:
                said.append(f"\n- and {len(found) - examples:,} more", style="dim")
            said.append(f"\n{kind.hint}", style="italic")
            number = len(found[0].pictures) if code in {"no-labels", "nothing-known"} else len(found)
            table.add_row(Text(kind.severity, COLOURS[kind.severity]), code, f"{number:,}", said, end_section=True)
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False)
    console.print(table)
    body = "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
    tail = ", ".join(f"{count:,} {severity}{'s' * (count != 1)}" for severity, count in check.counts.items())
    return f"{head}\n\n{body}\n\n{tail}"


def _example(found: Finding) -> str:
    shown = [f"{printable(picture.split)} {printable(picture.image)}" for picture in found.pictures[:MOST_PICTURES]]
    more = len(found.pictures) - len(shown)
    where = ", ".join(shown) + (f" and {more:,} more" if more else "")
    # Where the heading says it all, the message only says it again.
    told = "" if found.code in {"leak", "duplicate"} else printable(found.message)
    return f"- {told}{': ' * bool(told and where)}{where}"


MOST_PICTURES = 4


def printable(text: str) -> str:
    """A name with everything escaped that a terminal might act upon, or that is no text."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def groups_text(check: Check) -> str:
    """JSON lines of image and group, for ``msrn data split --groups``: equal and near duplicates share a group.

    Pictures without a duplicate have a group of their own. A name that several splits hold is written as a path.
    """
    names = Counter(picture.image for picture in check.pictures)
    number = {member: group for group, members in enumerate(check.alike) for member in members}
    lines = [
        {
            "image": picture.image if names[picture.image] == 1 else picture.path,
            "group": f"alike-{number[index]}" if index in number else f"alone-{index}",
        }
        for index, picture in enumerate(check.pictures)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def write_text(path: str | Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
