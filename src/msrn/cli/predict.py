"""``msrn predict``: label images with a bundle."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace

from msrn.cli.command import Command
from msrn.errors import DataError

__all__ = ["COMMAND"]

FEW = 8
"""Images up to which loading a fused kernel takes longer than it saves."""


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("bundle", help="bundle or run folder")
    parser.add_argument("images", nargs="+", help="images, folders, tar shards and parquet files")
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="json: one object per line (%(default)s)"
    )
    parser.add_argument("--threshold", type=float, help="one probability for all labels; default: the bundle's")
    parser.add_argument(
        "--top",
        type=int,
        help="only the best labels, this many; default: all in json and csv, those over threshold in table",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    parser.add_argument("--optimize", action="store_true", help="choose the fastest variant on the first batch")
    parser.add_argument("--batch_size", type=int, default=32, help="images at a time (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="threads that read images (%(default)s)")


def run(args: Namespace) -> int:
    """Predict, one row per image."""
    from msrn.data.archives.names import is_archive
    from msrn.ops.semantic_attention import set_default_form

    many = len(args.images) > FEW or any(os.path.isdir(image) or is_archive(image) for image in args.images)
    if many or args.optimize:
        return _predict(args)
    before = set_default_form("chunked")  # loading the fused kernel would take longer than it saves
    try:
        return _predict(args)
    finally:
        set_default_form(before)


def _predict(args: Namespace) -> int:
    from msrn.inference.output import write_predictions
    from msrn.inference.predictor import Predictor

    predictor = Predictor.load(args.bundle, device=args.device, threshold=args.threshold, optimize=args.optimize)
    predictions = predictor.predict(args.images, batch_size=args.batch_size, workers=args.workers)
    done, broken = write_predictions(predictions, sys.stdout, style=args.format, labels=predictor.labels, top=args.top)
    if broken:
        print(f"{broken} of {done} images could not be read", file=sys.stderr)
    elif not done:
        raise DataError("found no images", ", ".join(args.images), "name images, or folders or archives that hold some")
    return 1 if broken else 0


COMMAND = Command(
    summary="label images with a bundle",
    description="Label images: one row each, in order. Folders, tar and parquet files are searched for images.",
    arguments=arguments,
    run=run,
)
