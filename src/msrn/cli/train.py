"""``msrn train``: train a classifier on a labelled set of images."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from datetime import datetime
from pathlib import Path

from msrn.cli.arguments import print_config, resolve
from msrn.cli.command import Command, speaks
from msrn.config import Settings, without_unknown
from msrn.errors import TrainingError, reason, write_hint

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--resume", metavar="FOLDER", help="run folder to continue, exactly where it stopped")


def run(args: Namespace) -> int:
    """Train, and print where the bundle is."""
    settings = _settings(args)
    if args.print_config:
        return print_config(args, settings)
    from msrn.engine.run_folder import holds_state
    from msrn.engine.trainer import Interrupted, train

    try:
        result = train(settings, resume=bool(args.resume))
    except Interrupted as stop:
        if speaks():
            print(f"stopped and saved; continue with: {_resume(stop.folder)}", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk; what was saved before is intact
        folder = Path(settings.run.folder)
        hint = write_hint(error, f"continue with: {_resume(folder)}")
        if not hint or not holds_state(folder):
            raise
        raise TrainingError(reason(error), str(error.filename or folder), hint) from error
    if speaks():
        if result.val_map is None:
            print(f"no validation split: the weights of epoch {result.best_epoch}, the last, are kept")
        else:
            print(f"best validation mAP {100 * result.val_map:.2f} % after epoch {result.best_epoch}")
        print(f"{result.minutes:.1f} minutes, peak memory {result.peak_memory_bytes / 2**30:.2f} GiB")
        print(f"run folder {result.folder}\nbundle     {result.bundle}")
    return 0


def _resume(folder: Path) -> str:
    return f"msrn train --resume {shlex.quote(str(folder))}"


def _settings(args: Namespace) -> Settings:
    if args.resume:
        from msrn.engine.run_folder import read_state

        saved, _ = without_unknown(read_state(Path(args.resume))["settings"])
        return resolve(args, saved, {"run": {"folder": args.resume}})
    settings = resolve(args)
    if settings.run.folder or args.print_config:
        return settings
    folder = f"runs/{settings.preset or settings.data.reader.name}-{datetime.now():%Y%m%d-%H%M%S}"
    return settings.model_copy(update={"run": settings.run.model_copy(update={"folder": folder})})


COMMAND = Command(
    summary="train a classifier on a labelled set of images",
    description="Train a classifier. Without --run.folder the run goes to runs/.",
    arguments=arguments,
    run=run,
    settings=("data", "labels", "model", "loss", "optim", "thresholds", "run"),
)
