"""``msrn labels``: label embeddings and the label graph of a data set or a bundle."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from msrn.cli.arguments import print_config, resolve
from msrn.cli.command import Command
from msrn.errors import ConfigError

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "part", choices=("all", "graph"), nargs="?", default="all", help="graph: leave the label names out"
    )
    parser.add_argument("--bundle", help="show what a bundle learned, with its groups, in place of a data set")
    parser.add_argument("--draw", metavar="FILE", help="figure of the graph to write, as .svg, .png or .pdf")
    parser.add_argument("--edges", metavar="FILE", help="edges to write as .csv, .tsv, .json or .npz")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the tables")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def run(args: Namespace) -> int:
    """Print the tables, and write the files asked for."""
    if args.bundle and (args.preset or args.config or args.flags):
        raise ConfigError("a bundle has its own labels", "--bundle", "leave the settings out")
    settings = None if args.bundle else resolve(args)
    if args.print_config:
        if settings is None:
            raise ConfigError("a bundle's labels need no settings", "--print_config")
        return print_config(args, settings)
    from msrn.engine.label_summary import (
        graph_text,
        names_text,
        summarize_bundle_labels,
        summarize_labels,
        summary_json,
        write_graph_files,
    )
    from msrn.files import refuse_to_overwrite
    from msrn.labels.graph_io import EDGE_SUFFIXES
    from msrn.visualize.figures import FIGURE_SUFFIXES

    for flag, known in (("draw", FIGURE_SUFFIXES), ("edges", EDGE_SUFFIXES)):
        path = getattr(args, flag)
        if path and Path(path).suffix.lower() not in known:
            expected = f"expected a file that ends in {', '.join(known[:-1])} or {known[-1]}, got {path!r}"
            raise ConfigError(expected, f"--{flag}")
    files = [Path(path) for path in (args.draw, args.edges) if path]
    refuse_to_overwrite(files, force=args.force)
    summary = summarize_labels(settings) if settings else summarize_bundle_labels(args.bundle)
    write_graph_files(summary, draw=args.draw, edges=args.edges)
    texts = [graph_text(summary)] if args.part == "graph" else [names_text(summary), graph_text(summary)]
    print(summary_json(summary) if args.json else "\n\n".join(texts))
    if files:
        print(*files, sep="\n", file=sys.stderr)
    return 0


COMMAND = Command(
    summary="show label embeddings and the label graph of a data set or a bundle",
    description="Show how the embedding of each label was found, and the label graph.",
    arguments=arguments,
    run=run,
    settings=(
        *(f"data.{name}" for name in ("reader", "root", "train", "val", "val_fraction", "labels")),
        *("labels", "run.seed"),
    ),
)
