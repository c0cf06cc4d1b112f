"""Output of a check: a table for people, JSON for programs, split groups for ``msrn data split``."""

from __future__ import annotations

import io
import json
from collections import Counter

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from msrn.audit.check import Check
from msrn.audit.issues import CODES, Issue
from msrn.audit.result import CheckResult
from msrn.errors import printable

__all__ = ["check_json", "check_text", "split_groups_text"]

COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}

MAX_IMAGES = 4
"""Images named in one example of the table."""


def check_json(result: CheckResult) -> str:
    """One JSON object, ASCII only: a file name need not be valid text."""
    return json.dumps(result.to_json(), indent=1)


def check_text(result: CheckResult, *, examples: int = 3, width: int = 100, colour: bool = False) -> str:
    """A table with one row per code, errors first: the number of issues, examples, and what to do."""
    total = sum(split.images for split in result.splits)
    sizes = ", ".join(f"{printable(split.name)} {split.images:,}" for split in result.splits)
    head = f"{total:,} images ({sizes}), {result.labels:,} labels"
    if not result.issues:
        return f"{head}: no issues"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    table.add_column("severity", no_wrap=True)
    table.add_column("code", no_wrap=True)
    table.add_column("found", justify="right", no_wrap=True)
    table.add_column("issue, examples, and what to do", overflow="fold")
    for code, kind in CODES.items():
        found = [each for each in result.issues if each.code == code]
        if found:
            cell = Text().append(kind.meaning, style="bold")
            for each in found[:examples]:
                cell.append(f"\n{_example(each)}")
            if len(found) > examples:
                cell.append(f"\n- and {len(found) - examples:,} more", style="dim")
            cell.append(f"\n{kind.hint}", style="italic")
            per_image = code in {"no-labels", "nothing-known"}  # one issue lists all images of a split
            number = sum(len(each.images) for each in found) if per_image else len(found)
            severity = found[0].severity
            table.add_row(Text(severity, COLOURS[severity]), code, f"{number:,}", cell, end_section=True)
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False)
    console.print(table)
    body = "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
    tail = ", ".join(f"{count:,} {severity}{'s' * (count != 1)}" for severity, count in result.counts.items())
    return f"{head}\n\n{body}\n\n{tail}"


def _example(found: Issue) -> str:
    shown = [f"{printable(image.split)} {printable(image.image)}" for image in found.images[:MAX_IMAGES]]
    more = len(found.images) - len(shown)
    where = ", ".join(shown) + (f" and {more:,} more" if more else "")
    # The meaning of these codes says already what the message says.
    message = "" if found.code in {"leak", "duplicate"} else printable(found.message)
    return f"- {message}{': ' * bool(message and where)}{where}"


def split_groups_text(check: Check) -> str:
    """JSON lines of image and group, for ``msrn data split --split_groups``.

    Duplicates and near duplicates share a group. An image without a duplicate has a group of its own. A name
    that several splits use is written as a path.
    """
    names = Counter(image.image for image in check.images)
    number = {member: group for group, members in enumerate(check.similar) for member in members}
    lines = [
        {
            "image": image.image if names[image.image] == 1 else image.path,
            "group": f"alike-{number[index]}" if index in number else f"alone-{index}",
        }
        for index, image in enumerate(check.images)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)
