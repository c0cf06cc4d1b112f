"""``msrn compare``: train a grid of variants and compare them on the same images."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from msrn.cli.command import Command

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("grid", help="YAML file of shared settings, what is varied, and seeds")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder of the runs and the comparison")
    parser.add_argument("--list", action="store_true", help="list the runs and stop")


def run(args: Namespace) -> int:
    """Run what is not finished, write the comparison, print its table."""
    from msrn.compare.grid import read_grid

    grid = read_grid(args.grid)
    if args.list:
        print("\n".join(f"{cell.variant}, seed {cell.seed}: {cell.folder_name}" for cell in grid.cells))
        return 0
    from msrn.compare.run import run_grid
    from msrn.compare.table import compare_results, comparison_markdown
    from msrn.compare.write import write_comparison
    from msrn.engine.interrupt import Interrupted

    folder = Path(args.out)
    try:
        results, failures = run_grid(grid, folder, say=lambda line: print(line, file=sys.stderr, flush=True))
    except Interrupted:
        print(f"stopped and saved; continue with: msrn compare {args.grid} --out {folder}", file=sys.stderr)
        return 130
    comparison = compare_results(results, failures, reference=grid.reference)
    write_comparison(comparison, folder)
    print(comparison_markdown(comparison), end="")
    print(f"\n{folder / 'comparison.html'}", file=sys.stderr)
    return 1 if failures else 0


COMMAND = Command(
    summary="train a grid of variants and compare them on the same images",
    description="Train every combination of a grid (heads, losses, backbones, seeds) and compare the variants: mean\n"
    "and spread over seeds, and paired 95 % intervals over images. Started again, it keeps what is finished.",
    arguments=arguments,
    run=run,
)
