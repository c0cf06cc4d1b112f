"""All benchmarks, one table: ``make bench`` prints it, and writes ``results.json`` and ``docs/benchmarks.md``.

Run it on a machine that does nothing else. Each group runs in a process of its own, so that none finds memory or caches
as another left them. Where our operator stands beside the plain one, both ways of treating freed memory are shown: the
plain form's large products cost more in fresh pages than in arithmetic.
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
"""Module beside this one, its function that gives rows, and whether freed memory is kept, as the program does."""
OUT = Path(__file__).parent
DOCS = OUT.parent / "docs"


def main() -> None:
    """Run the groups asked for and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", help="attention, network ...; report: write the page again; none: all")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print("\n" + json.dumps(_measure(asked.child)))
        return
    path = OUT / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for group in asked.groups or GROUPS:
        if group != "report":
            print(f"{group} (load of the machine: {os.getloadavg()[0]:.1f})", file=sys.stderr)
            command = [sys.executable, __file__, "--child", group]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[group] = json.loads(found.stdout.splitlines()[-1]) | {"date": f"{date.today()}"}
        _write(path, json.dumps(results, indent=1) + "\n")
    text = report(results)
    _write(DOCS / "benchmarks.md", text)
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
    """Markdown: the machine, a table of comparisons with their bars, and the figures that have none."""
    machines = {json.dumps(group["machine"]) for group in results.values()}
    lines = ["# Benchmarks", ""]
    lines += [", ".join(f"{key} {value}" for key, value in json.loads(told).items()) for told in sorted(machines)]
    dates = sorted({group["date"] for group in results.values()})
    lines += [
        "",
        f"Measured {', '.join(dates)} with `make bench`. Medians (least to most) of runs in turn in one process;",
    ]
    lines += ["a ratio is the median of the ratios round by round.", ""]
    lines += [
        "Freed memory is either given back to the system, which is the C library's default and what you get in Python,"
    ]
    lines += ["or kept, which is what the program `msrn` does (see [Speed](guides/speed.md)).", ""]
    rows = [
        {**row, "memory": "kept" if GROUPS[name][2] else "default"}
        for name in GROUPS
        if name != "growth" and name in results
        for row in results[name]["rows"]
    ]
    lines += ["| what | memory | slower | faster | ratio | bar | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if "ratio" in row:
            bar, met = _bar(row)
            times = f"{row['slow']} | {row['fast']} | {_times(row['ratio'])}"
            lines.append(f"| {row['what']} | {row['memory']} | {times} | {bar} | {met} |")
    lines += ["", "| what | figure | bar | |", "|---|---|---|---|"]
    for row in rows:
        if "value" in row:
            limit = row.get("at_most_seconds")
            bar = f"at most {limit:g} s" if limit else ""
            met = "" if not limit else "met" if row["seconds"] <= limit else "**missed**"
            note = f"; {row['note']}" if "note" in row else ""
            lines.append(f"| {row['what']} | {row['value']}{note} | {bar} | {met} |")
    if "growth" in results:
        growth_table = importlib.import_module("attention").growth_table
        lines += ["", "## How the cost of attention grows: forward and backward, D = 512", ""]
        lines += ["![Seconds over labels, positions and images for three forms](images/attention_growth.png)", ""]
        lines += [growth_table(results["growth"]["rows"]), ""]
        lines += ["The forms run in turn. Just after the plain one has given its memory back, a second thread now and"]
        lines += ["then comes 10 to 25 ms late; with few labels that outweighs the work itself (K = 20 alone: 3 ms)."]
    lines += [
        "",
        "Next: [Semantic attention](concepts/semantic-attention.md), which says why the fused forms can be so cheap.",
    ]
    return "\n".join(lines) + "\n"


def _bar(row: dict[str, Any]) -> tuple[str, str]:
    least, most = row.get("bar", row.get("at_least")), row.get("at_most")
    if least is not None:
        return f"at least {least:g} x", "met" if row["ratio"] >= least else "**missed**"
    if most is not None:
        return f"at most {most:g} x", "met" if row["ratio"] <= most else "**missed**"
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
        for form, told in (("reference", "plain"), ("chunked", "chunked"), ("numba", "fused (numba)")):
            run = [point for point in mine if point[form] is not None]
            axis.plot(
                [point[field] for point in run], [point[form] for point in run], "o-", color=colours[form], label=told
            )
        axis.set(xscale="log", yscale="log", xlabel={"positions": "positions N"}.get(field, field))
        axis.grid(alpha=0.25, which="both")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.axes[0].set_ylabel("seconds, forward and backward")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=130)


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text)
    os.replace(beside, path)


if __name__ == "__main__":
    main()
