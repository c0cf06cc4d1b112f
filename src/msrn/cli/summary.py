"""``msrn summary``: what a model costs, by part. Nothing is run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from msrn.cli.arguments import print_config, resolve
from msrn.cli.command import Command
from msrn.cli.recorded import recorded_settings
from msrn.errors import BundleError, ConfigError, DataError, LabelError

if TYPE_CHECKING:
    from msrn.config import Settings

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("bundle", nargs="?", help="bundle or run folder; none: the model of the settings")
    parser.add_argument("--num_labels", type=int, help="number of labels; default: counted in the data set")
    parser.add_argument("--json", action="store_true", help="one JSON object, in bytes and FLOPs, in place of tables")


def run(args: Namespace) -> int:
    """Print the cost."""
    base = None
    if args.bundle:
        if args.num_labels is not None:
            raise ConfigError("a bundle has its own labels", "--num_labels", "leave it out")
        base = recorded_settings(args.bundle, COMMAND.settings)
    settings = resolve(args, base)
    if args.print_config:
        return print_config(args, settings)
    from msrn.labels.embeddings import embedding_width
    from msrn.profiling.summary import summarize, summary_json, summary_text

    if args.bundle:
        num_labels, width = _bundle_sizes(args.bundle)
    else:
        num_labels = _count_labels(settings) if args.num_labels is None else args.num_labels
        if num_labels < 1:
            raise ConfigError(f"expected at least one label, got {num_labels}", "--num_labels")
        width = embedding_width(settings.labels.embeddings, num_labels)
    summary = summarize(settings, num_labels=num_labels, embedding_width=width)
    print(summary_json(summary) if args.json else summary_text(summary))
    return 0


def _count_labels(settings: Settings) -> int:
    from msrn.engine.setup import read_labels_and_train
    from msrn.labels.space import LabelSpace

    try:
        if settings.data.labels:
            return len(LabelSpace.read(Path(settings.data.labels)))
        return len(read_labels_and_train(settings).labels)
    except (ConfigError, DataError, LabelError) as error:
        raise ConfigError(
            f"the number of labels is not known: {error.message}",
            error.where,
            "pass --num_labels N (VOC has 20, COCO 80), or name the data with --data.*",
        ) from error


def _bundle_sizes(bundle: str) -> tuple[int, int]:
    """L, and E of the bundle's label embeddings (1 for a head that reads none)."""
    from msrn.bundle.metadata import INPUTS_FILE, bundle_folder, read_metadata
    from msrn.models.state_files import read_safetensors

    path = bundle_folder(bundle) / INPUTS_FILE
    try:
        embeddings = read_safetensors(path).get("embeddings")
    except ValueError as error:
        hint = "copy the whole folder again"
        raise BundleError(f"cannot read the label inputs: {error}", str(path), hint) from error
    width = 1 if embeddings is None or embeddings.ndim < 2 else embeddings.shape[1]
    return len(read_metadata(bundle).labels), width


COMMAND = Command(
    summary="show parameters, FLOPs and memory of a model, by part",
    description="Show what a model costs: parameters, FLOPs and memory, by part. Nothing is run.",
    arguments=arguments,
    run=run,
    settings=(
        *(f"data.{name}" for name in ("reader", "root", "train", "labels", "image_size", "batch_size")),
        *("data.eval_batch_size", "labels.embeddings", "model", "loss"),
        *("optim.name", "optim.momentum", "optim.accumulate", "optim.ema", "run.devices", "run.precision"),
    ),
)
