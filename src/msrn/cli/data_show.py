"""``msrn data show``: a data set as one self-contained page."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from msrn.cli.arguments import data_settings, print_config
from msrn.cli.command import Command
from msrn.cli.data_sources import SPLIT_SETTINGS, add_sources, read_source, sources
from msrn.errors import ConfigError

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_sources(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="HTML file to write; it needs no other file")
    parser.add_argument("--title", default="", help="title of the page; default: the name of the data set")
    parser.add_argument("--samples", type=int, default=6, help="images per label (%(default)s); 0: none")
    parser.add_argument("--threshold", type=float, default=0.4, help="minimum P(j|i) of an edge (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of samples (%(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite the file")


def run(args: Namespace) -> int:
    """Write the page."""
    data = data_settings(args)
    if args.print_config:
        return print_config(args, data)
    from msrn.files import refuse_to_overwrite, write_atomically
    from msrn.report.data_set import show_data

    out = Path(args.out)
    refuse_to_overwrite([out], force=args.force)
    if not 0 <= args.samples <= 100:
        raise ConfigError(f"expected 0 to 100, got {args.samples}", "--samples")
    page = show_data(
        [read_source(args, data, source) for source in sources(args, data)],
        title=args.title,
        samples=args.samples,
        threshold=args.threshold,
        seed=args.seed,
    )
    write_atomically(out, page, parents=True)
    print(f"{out}: {len(page.encode()) / 1e6:.1f} MB")
    return 0


COMMAND = Command(
    summary="draw a data set as one self-contained page",
    description="Draw a data set as one page: labels, their co-occurrence, image sizes, and samples.",
    arguments=arguments,
    run=run,
    settings=SPLIT_SETTINGS,
)
