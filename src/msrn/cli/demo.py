"""``msrn demo``: the main job on drawn scenes, in a few minutes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from msrn.cli.command import Command

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--folder", default="runs/demo", help="where everything is written (%(default)s)")


def run(args: Namespace) -> int:
    """Run the demo."""
    from msrn.demo.run import run_demo

    return run_demo(Path(args.folder))


COMMAND = Command(
    summary="train, evaluate and predict on drawn scenes, in a few minutes",
    description="Draw scenes, fine-tune MSRN on them, evaluate it and predict: a few minutes on two cores.",
    arguments=arguments,
    run=run,
)
