"""``msrn soup``: average the weights of bundles."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace

from msrn.cli.arguments import print_config, resolve
from msrn.cli.command import Command, speaks
from msrn.cli.recorded import recorded_settings
from msrn.errors import ConfigError

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="bundles or run folders of one network")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="new folder for the bundle of the mean")
    parser.add_argument(
        "--greedy", action="store_true", help="leave out bundles with which the validation mAP of the soup is lower"
    )


def run(args: Namespace) -> int:
    """Average, write the bundle, and print what is in it and what is not."""
    if args.paths and not args.greedy:
        raise ConfigError(f"--{args.paths[0]} is read with --greedy alone", "command line", "add --greedy")
    settings = resolve(args, recorded_settings(args.bundles[0], COMMAND.settings))
    if args.print_config:
        return print_config(args, settings)
    from msrn.engine.soup import make_soup

    soup = make_soup(args.bundles, args.out, greedy=settings if args.greedy else None)
    if speaks():
        for bundle in args.bundles:
            figure = f"   validation mAP {100 * soup.val_maps[bundle]:6.2f} %" if args.greedy else ""
            print(f"{'in ' if bundle in soup.ingredients else 'out'}{figure}   {bundle}")
        if soup.val_map is not None:
            print(f"soup  validation mAP {100 * soup.val_map:6.2f} %")
        print(f"\nbundle {args.out}")
        folder = shlex.quote(args.out)
        print(
            "It has no tuned thresholds and no calibration. To choose thresholds, with --data.root or --data.val where"
        )
        print(f"its data is not found from here: msrn thresholds {folder}")
    return 0


COMMAND = Command(
    summary="average the weights of bundles",
    description="Write the mean of the weights of bundles of one network, trained on the same data, as a bundle.\n"
    "With --greedy, data settings start from those of the first bundle's training.",
    arguments=arguments,
    run=run,
    settings=(
        *(f"data.{name}" for name in ("reader", "root", "train", "val", "difficult")),
        *("data.eval_batch_size", "data.workers"),
        *("run.device", "run.precision"),
    ),
)
