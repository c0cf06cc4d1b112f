"""``msrn train``: train a classifier on a labelled set of images."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from msrn.cli.arguments import print_config, resolve
from msrn.cli.command import Command, speaks
from msrn.config import Settings, idle_settings, without_unknown
from msrn.errors import ConfigError, Problem, TrainingError, reason, write_hint

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

    _require_effect(args.paths, settings)
    try:
        result = train(settings, resume=bool(args.resume))
    except Interrupted as stop:
        if speaks():
            print(f"stopped and saved; continue with: {_resume(stop.folder)}", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk; what was saved before is intact
        given = [Path(settings.run.folder)] if settings.run.folder else Path(error.filename or "").parents
        folder = next(filter(holds_state, given), None)
        hint = write_hint(error, f"continue with: {_resume(folder)}") if folder else ""
        if not hint:
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


def _require_effect(paths: list[str], settings: Settings) -> None:
    """Refuse a flag that would change nothing, given what other settings choose."""
    from msrn.models.classifier import head_class

    idle = idle_settings(settings, needs=head_class(settings.model.head.name).needs(settings.model.head))
    problems = [Problem(f"--{path} has no effect: {idle[path]}", "command line") for path in paths if path in idle]
    if problems:
        raise ConfigError.of(problems, "some flags have no effect")


def _settings(args: Namespace) -> Settings:
    if args.resume:
        from msrn.engine.run_folder import read_state

        if "run.folder" in args.paths:
            raise ConfigError("--resume names the run folder", "--run.folder", "leave --run.folder out")
        saved, _ = without_unknown(read_state(Path(args.resume))["settings"])
        return resolve(args, saved, {"run": {"folder": args.resume}})
    return resolve(args)


COMMAND = Command(
    summary="train a classifier on a labelled set of images",
    description="Train a classifier. Without --run.folder the run goes to runs/.",
    arguments=arguments,
    run=run,
    settings=("data", "labels", "model", "loss", "optim", "thresholds", "run"),
)
