"""``msrn search``: search settings for each variant, by validation mAP, with the same number of trials."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from msrn.cli.command import Command

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("search", help="YAML file of shared settings, variants, and the space to search")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder of the trials and of best.yaml")


def run(args: Namespace) -> int:
    """Run the trials that are missing, and print what was found."""
    from msrn.compare.search import read_search, run_search
    from msrn.engine.interrupt import Interrupted

    file, folder = read_search(args.search), Path(args.out)
    try:
        found = run_search(file, folder, say=lambda line: print(line, file=sys.stderr, flush=True))
    except Interrupted:
        print(f"stopped and saved; continue with: msrn search {args.search} --out {folder}", file=sys.stderr)
        return 130
    for each in found:
        values = ", ".join(f"{name} {value}" for name, value in each.settings.items())
        print(f"{each.variant}: val mAP {100 * each.val_map:.2f} % with {values}")
    print(f"\ncompare them with: msrn compare {folder / 'best.yaml'} --out FOLDER")
    return 0


COMMAND = Command(
    summary="search settings for each variant by validation mAP",
    description="Search settings for each variant of a grid, all with the same number of trials (Optuna). Started\n"
    "again, it continues. Only the validation split is looked at.",
    arguments=arguments,
    run=run,
)
