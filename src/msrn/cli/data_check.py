"""``msrn data check``: open every image of a data set and report what is wrong."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from msrn.cli.arguments import data_settings, print_config
from msrn.cli.command import Command
from msrn.cli.data_sources import SPLIT_SETTINGS, add_sources, readable_sources
from msrn.errors import ConfigError, DataError

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_sources(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    parser.add_argument("--examples", type=int, default=3, help="examples of each issue in the table (%(default)s)")
    parser.add_argument(
        "--near", type=int, help="bits of 64 in which hashes of near duplicates may differ (8); -1: skip the search"
    )
    parser.add_argument("--min_train", type=int, default=10, help="images that a label needs in training (%(default)s)")
    parser.add_argument("--min_test", type=int, default=5, help="images that a label needs in evaluation (%(default)s)")
    parser.add_argument("--split_groups", metavar="FILE", help="JSON lines to write: images to keep in one split")
    parser.add_argument("--fix", metavar="FOLDER", help="folder for new manifests, without the images that have errors")
    parser.add_argument("--workers", type=int, help="processes that read images; default: one per core")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def run(args: Namespace) -> int:
    """Check, print the table, and write the files asked for; exit code 1 if there are errors."""
    data = data_settings(args)
    if args.print_config:
        return print_config(args, data)
    from rich.console import Console

    from msrn.audit.check import check_data
    from msrn.audit.fixes import changes_text, fixed_files, write_fixed
    from msrn.audit.hashes import MAX_BITS, NEAR_BITS, require_imagehash
    from msrn.audit.output import check_json, check_text, split_groups_text
    from msrn.files import refuse_to_overwrite, write_atomically
    from msrn.progress import progress_bar

    near = args.near
    if near is not None and not -1 <= near <= MAX_BITS:
        raise ConfigError(f"expected -1 to {MAX_BITS}, got {near}", "--near", "8, or -1 to skip near duplicates")
    if near is not None and near >= 0:
        require_imagehash()  # without the flag, a note in the report says that it is missing
    if args.split_groups:
        refuse_to_overwrite([Path(args.split_groups)], force=args.force)
    manifests, broken = readable_sources(args, data)
    if broken and args.fix:
        raise DataError.of(broken, "no manifests are written while a split cannot be read")
    if args.fix:
        refuse_to_overwrite(fixed_files(manifests, args.fix), force=args.force)
    with progress_bar("images", sum(map(len, manifests))) as ticker:
        check = check_data(
            manifests,
            near_bits=None if near == -1 else NEAR_BITS if near is None else near,
            min_train=args.min_train,
            min_test=args.min_test,
            broken=broken,
            workers=args.workers or len(os.sched_getaffinity(0)),
            advance=ticker.advance,
        )
    if args.json:
        print(check_json(check.result))
    else:
        console = Console()
        width = console.width if console.is_terminal else 120
        print(check_text(check.result, examples=args.examples, width=width, colour=console.is_terminal))
    if args.split_groups:
        write_atomically(Path(args.split_groups), split_groups_text(check), parents=True)
        print(f"split groups: {args.split_groups}", file=sys.stderr)
    if args.fix:
        paths, changes = write_fixed(check, args.fix, force=args.force)
        print(changes_text(changes), *paths, sep="\n", file=sys.stderr)
    return 1 if check.result.counts["error"] else 0


COMMAND = Command(
    summary="open every image, and report what is wrong with a data set",
    description="Open every image of a data set, and report what is wrong with images, splits and labels.",
    arguments=arguments,
    run=run,
    settings=SPLIT_SETTINGS,
)
