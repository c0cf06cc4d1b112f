"""``msrn evaluate``: evaluate a bundle on a split of a labelled set."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from msrn.cli.arguments import print_config, resolve
from msrn.cli.command import Command, speaks
from msrn.cli.recorded import recorded_settings
from msrn.errors import ConfigError

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("bundle", help="bundle or run folder")
    parser.add_argument("--split", choices=("train", "val", "test"), help="which split of data.*; default: val")
    parser.add_argument("--tuned", action="store_true", help="use the bundle's thresholds in place of 0.5")
    parser.add_argument("--out", metavar="FILE", help="JSON file to write; default: in the run folder")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def run(args: Namespace) -> int:
    """Evaluate, and print the table."""
    if args.split is None and "test" in args.flags.get("data", {}):
        raise ConfigError("--data.test is not read for the split val", "command line", "pass --split test")
    settings = resolve(args, recorded_settings(args.bundle, COMMAND.settings))
    if args.print_config:
        return print_config(args, settings)
    from msrn.engine.evaluate import evaluate
    from msrn.engine.evaluation_text import evaluation_text

    evaluation, path = evaluate(
        args.bundle, settings, split=args.split or "val", out=args.out, tuned=args.tuned, force=args.force
    )
    if speaks():
        print(evaluation_text(evaluation))
        print(f"\nall figures: {path}")
    return 0


COMMAND = Command(
    summary="evaluate a bundle on a labelled set of images",
    description="Evaluate a bundle on a split of a labelled set. Data settings start from those of its training; of a\n"
    "bundle that is not in its run folder, paths that lead elsewhere are left out.\n"
    "Of --preset and --config, the settings listed below are used.",
    arguments=arguments,
    run=run,
    settings=(
        *(f"data.{name}" for name in ("reader", "root", "train", "val", "test", "difficult")),
        *("data.eval_batch_size", "data.workers"),
        *("run.device", "run.devices", "run.precision"),
    ),
)
