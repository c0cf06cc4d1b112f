"""``msrn thresholds``: choose the thresholds of a bundle again, on validation images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from msrn.cli.arguments import print_config, resolve
from msrn.cli.command import Command, speaks
from msrn.cli.recorded import recorded_settings

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("bundle", help="bundle or run folder")
    parser.add_argument("--force", action="store_true", help="replace thresholds that were tuned before")


def run(args: Namespace) -> int:
    """Choose the thresholds, write them into the bundle, and print them."""
    from msrn.bundle.metadata import bundle_folder

    reads = set(COMMAND.settings) - {"thresholds"}
    settings = resolve(args, recorded_settings(args.bundle, reads))
    if args.print_config:
        return print_config(args, settings)
    from msrn.engine.tune import retune_thresholds, thresholds_text

    metadata = retune_thresholds(args.bundle, settings, force=args.force)
    if speaks():
        print(thresholds_text(metadata))
        print(f"\nwritten into {bundle_folder(args.bundle)}")
    return 0


COMMAND = Command(
    summary="choose the thresholds of a bundle again",
    description="Choose the thresholds of a bundle on validation images and write them into it.\n"
    "Data settings start from those of its training; the rule starts from the default.",
    arguments=arguments,
    run=run,
    settings=(
        "thresholds",
        *(f"data.{name}" for name in ("reader", "root", "train", "val", "difficult")),
        *("data.eval_batch_size", "data.workers"),
        *("run.device", "run.devices", "run.precision"),
    ),
)
