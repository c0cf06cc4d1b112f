"""``msrn calibrate``: make the probabilities of a bundle those that validation images bear out."""

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
    parser.add_argument(
        "--method",
        choices=("temperature", "platt", "none"),
        default="temperature",
        help="one scale for all labels (default), a scale and an offset for each, or the network's own probabilities",
    )
    parser.add_argument(
        "--min_support",
        type=int,
        default=25,
        metavar="N",
        help="platt: known positives, and negatives, for a label's own fit; others get the temperature; default: 25",
    )
    parser.add_argument("--force", action="store_true", help="replace a calibration")


def run(args: Namespace) -> int:
    """Calibrate, write it into the bundle, and print what it changed."""
    from msrn.bundle.metadata import bundle_folder

    if args.min_support < 1:
        raise ConfigError(f"expected at least 1, got {args.min_support}", "--min_support")
    settings = resolve(args, recorded_settings(args.bundle, COMMAND.settings))
    if args.print_config:
        return print_config(args, settings)
    from msrn.engine.calibrate import calibrate_bundle, calibration_text

    metadata = calibrate_bundle(args.bundle, settings, args.method, min_support=args.min_support, force=args.force)
    if speaks():
        print(calibration_text(metadata))
        print(f"\nwritten into {bundle_folder(args.bundle)}")
    return 0


COMMAND = Command(
    summary="calibrate the probabilities of a bundle",
    description="Fit the probabilities of a bundle to validation images and write the fit into it.\n"
    "Data settings start from those of its training. Thresholds move with the probabilities.",
    arguments=arguments,
    run=run,
    settings=(
        *(f"data.{name}" for name in ("reader", "root", "train", "val", "difficult")),
        *("data.eval_batch_size", "data.workers"),
        *("run.device", "run.devices", "run.precision"),
    ),
)
