"""All benchmarks, one table: ``make bench`` prints it, and writes ``results.json`` and ``docs/benchmarks.md``.

Run it on a machine that does nothing else. Each group runs in a process of its own, independent of the memory and
caches of the others. Where our operator is compared with the plain one, the table has both treatments of freed memory:
the plain form's large products cost more in fresh pages than in arithmetic.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from msrn.files import write_atomically, write_json

GROUPS = {
    "attention": ("attention", "measure", False),
    "attention_kept": ("attention", "measure", True),
    "plain": ("network", "beside_plain", False),
    "plain_kept": ("network", "beside_plain", True),
    "network": ("network", "measure", True),
    "predict": ("predict", "measure", True),
    "loader": ("loader", "measure", True),
    "readers": ("readers", "measure", False),
    "growth": ("attention", "growth", False),
}
"""Module in this folder, its function that returns rows, and whether freed memory is kept, as the program does."""
OUT = Path(__file__).parent
DOCS = OUT.parent / "docs"


def main() -> None:
    """Run the groups that are named and write their results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "groups", nargs="*", help="attention, network ...; report: only write the page again; none: all"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print("\n" + json.dumps(_measure(args.child)))
        return
    path = OUT / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for group in args.groups or GROUPS:
        if group != "report":
            print(f"{group} (load of the machine: {os.getloadavg()[0]:.1f})", file=sys.stderr)
            command = [sys.executable, __file__, "--child", group]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[group] = json.loads(found.stdout.splitlines()[-1]) | {"date": f"{date.today()}"}
        write_json(path, results)
    text = report(results)
    write_atomically(DOCS / "benchmarks.md", text)
    if "growth" in results:
        plot(results["growth"]["rows"], DOCS / "images" / "attention_growth.png")
    print(text)


def _measure(group: str) -> dict[str, Any]:
    from timing import machine

    from msrn.__main__ import keep_freed_memory

    module, function, keep = GROUPS[group]
    if keep:
        keep_freed_memory()
    rows = getattr(importlib.import_module(module), function)()
    return {"machine": machine(), "rows": rows}


def report(results: dict[str, Any]) -> str:
    """Markdown: the machine, a table of comparisons, and a table of single figures, each with its target if any."""
    machines = {json.dumps(group["machine"]) for group in results.values()}
    lines = ["# Benchmarks", ""]
    lines += [", ".join(f"{key} {value}" for key, value in json.loads(each).items()) for each in sorted(machines)]
    dates = sorted({group["date"] for group in results.values()})
    lines += [
        "",
        f"Measured {', '.join(dates)} with `make bench`. Times are medians (minimum to maximum) of runs in turn in one",
        "process; a ratio is the median of the ratios of each round.",
        "",
        "Freed memory is either returned to the system, the default of the C library and so of Python programs, or",
        "kept, as the program `msrn` does (see [Speed](guides/speed.md)).",
        "",
    ]
    rows = [
        {**row, "memory": "kept" if GROUPS[name][2] else "default"}
        for name in GROUPS
        if name != "growth" and name in results
        for row in results[name]["rows"]
    ]
    lines += ["| what | memory | slower | faster | ratio | target | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if "ratio" in row:
            target, met = _target(row)
            times = f"{row['slow']} | {row['fast']} | {_times(row['ratio'])}"
            lines.append(f"| {row['what']} | {row['memory']} | {times} | {target} | {met} |")
    lines += ["", "| what | figure | target | |", "|---|---|---|---|"]
    for row in rows:
        if "value" in row:
            limit = row.get("max_seconds")
            target = f"at most {limit:g} s" if limit else ""
            met = "" if not limit else "met" if row["seconds"] <= limit else "**missed**"
            note = f"; {row['note']}" if "note" in row else ""
            lines.append(f"| {row['what']} | {row['value']}{note} | {target} | {met} |")
    if "growth" in results:
        growth_table = importlib.import_module("attention").growth_table
        lines += ["", "## Growth of the cost of attention: forward and backward, D = 512", ""]
        lines += ["![Seconds over labels, positions and images for three forms](images/attention_growth.png)", ""]
        lines += [growth_table(results["growth"]["rows"]), ""]
        lines += ["The forms run in turn. Just after the plain form has returned its memory, a second thread sometimes"]
        lines += ["starts 10 to 25 ms late; with few labels that is longer than the work itself (K = 20 alone: 3 ms)."]
    lines += [
        "",
        "Next: [Semantic attention](concepts/semantic-attention.md), which explains the low cost of the fused forms.",
    ]
    return "\n".join(lines) + "\n"


def _target(row: dict[str, Any]) -> tuple[str, str]:
    smallest, largest = row.get("min_ratio"), row.get("max_ratio")
    if smallest is not None:
        return f"at least {smallest:g} x", "met" if row["ratio"] >= smallest else "**missed**"
    if largest is not None:
        return f"at most {largest:g} x", "met" if row["ratio"] <= largest else "**missed**"
    return "", ""


def _times(ratio: float) -> str:
    return f"{ratio:.3g} x" if ratio < 1000 else "over 1,000 x"


def plot(points: list[dict[str, Any]], path: Path) -> None:
    """Seconds over labels, image side and images, logarithmic; the plain form ends where it is too large."""
    from matplotlib.figure import Figure

    sweeps = {"labels": "labels", "image side": "positions", "images": "images"}
    colours = {"reference": "#b42318", "chunked": "#8a8f98", "numba": "#1a7f37"}
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    for axis, (sweep, field) in zip(figure.subplots(1, 3, sharey=True), sweeps.items(), strict=True):
        mine = [point for point in points if point["sweep"] == sweep]
        for form, name in (("reference", "plain"), ("chunked", "chunked"), ("numba", "fused (numba)")):
            run = [point for point in mine if point[form] is not None]
            axis.plot(
                [point[field] for point in run], [point[form] for point in run], "o-", color=colours[form], label=name
            )
        axis.set(xscale="log", yscale="log", xlabel={"positions": "positions N"}.get(field, field))
        axis.grid(alpha=0.25, which="both")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.axes[0].set_ylabel("seconds, forward and backward")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
