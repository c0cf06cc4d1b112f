"""Which commands are there? Parse, call one function, print. Nothing heavy is imported before a command runs.

Settings come from a preset, then a YAML file (``--config``), then flags such as ``--data.root``; later ones win.
Exit codes: 0 done; 1 done, but some pictures could not be read; 2 a mistake that the message explains; 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from pydantic import BaseModel

from msrn import __version__
from msrn.config import (
    DataSettings,
    LabelSettings,
    ModelSettings,
    OptimSettings,
    RunSettings,
    Settings,
    load_settings,
    merge,
    preset,
    preset_names,
    read_yaml,
)
from msrn.data_cli import add_data_parsers
from msrn.errors import ConfigError, MsrnError, did_you_mean

__all__ = ["main"]

SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataSettings,
    "labels": LabelSettings,
    "model": ModelSettings,
    "optim": OptimSettings,
    "run": RunSettings,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    try:
        args = parser.parse_args(arguments, defaults=False)
    except (ArgumentError, ArgumentTypeError) as error:
        print(f"error: {_told(error, arguments)}", file=sys.stderr)
        return 2
    command = args.subcommand
    given = args[command]
    innermost = given[given.subcommand] if given.get("subcommand") else given
    debug = bool(innermost.pop("debug", False))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("timm", "matplotlib", "PIL", "numba", "lightning_fabric", "httpx", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return COMMANDS[command](given)
    except MsrnError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a folder that cannot be written, a full disk
        if debug:
            raise
        print(f"error: {error.strerror or error}\n  at: {error.filename or command}", file=sys.stderr)
        return 2


def _demo(args: Namespace) -> int:
    from msrn.demo.run import run_demo

    return run_demo(Path(args.get("folder", "runs/demo")))


def _train(args: Namespace) -> int:
    resume = args.get("resume")
    if resume:
        base = read_yaml(Path(resume) / "settings.yaml")
        settings = _settings(args, base, {"run": {"folder": str(resume)}})
    else:
        settings = _settings(args)
    if "print_config" in args:
        return _print_config(settings)
    if not settings.run.folder:
        settings = settings.model_copy(
            update={"run": settings.run.model_copy(update={"folder": _new_folder(settings)})}
        )
    from msrn.engine.trainer import Interrupted, train

    try:
        result = train(settings, resume=bool(resume))
    except Interrupted as stop:
        print(f"stopped and saved; go on with: msrn train --resume {stop.folder}", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":
        memory = result["peak_memory_bytes"] / 2**30
        if result["val_mAP"] is None:
            print(f"no validation split: the weights of epoch {result['best_epoch']}, the last, are kept")
        else:
            print(f"best validation mAP {100 * result['val_mAP']:.2f} % after epoch {result['best_epoch']}")
        print(f"{result['minutes']:.1f} minutes, peak memory {memory:.2f} GiB")
        print(f"run folder {result['folder']}\nbundle     {result['bundle']}")
    return 0


def _evaluate(args: Namespace) -> int:
    from msrn.engine.evaluate import evaluate_bundle, summary

    bundle = Path(args.bundle)
    base = _bundle_settings(bundle)
    settings = _settings(args, base)
    if "print_config" in args:
        return _print_config(settings)
    split = args.get("split", "val")
    metrics, path = evaluate_bundle(bundle, settings, split=split, out=args.get("out"), tuned=args.get("tuned", False))
    if os.environ.get("RANK", "0") == "0":
        print(summary(metrics))
        print(f"\nall figures: {path}")
    return 0


def _predict(args: Namespace) -> int:
    from msrn.data.archives.containers import is_container
    from msrn.inference.output import write_predictions
    from msrn.inference.predictor import Predictor

    many = len(args.files) > 8 or any(Path(file).is_dir() or is_container(file) for file in args.files)
    optimize = args.get("optimize", False)
    predictor = Predictor.load(
        args.bundle,
        device=args.get("device", "auto"),
        threshold=args.get("threshold"),
        optimize=optimize,
        few=not many and not optimize,
    )
    predictions = predictor.predict(args.files, batch_size=args.get("batch_size", 32), workers=args.get("workers", 2))
    done, broken = write_predictions(
        predictions, sys.stdout, form=args.get("format", "table"), labels=predictor.labels, top=args.get("top")
    )
    if broken:
        print(f"{broken} of {done} pictures could not be read", file=sys.stderr)
    elif not done:
        print("no pictures were found", file=sys.stderr)
        return 2
    return 1 if broken else 0


def _labels(args: Namespace) -> int:
    bundle, files = args.get("bundle"), [Path(args[name]) for name in ("draw", "edges") if args.get(name)]
    if bundle and any(args.get(name) is not None for name in ("preset", "config", *SECTIONS)):
        raise ConfigError("a bundle says by itself what its labels are", "--bundle", "leave the settings out")
    settings = _settings(args, _bundle_settings(Path(bundle)) if bundle else None)
    if "print_config" in args:
        return _print_config(settings)
    from msrn.data.writers.convert import refuse_to_overwrite
    from msrn.engine.label_summary import graph_text, label_page, names_text, page_json, write_page_files
    from msrn.labels.graph_io import EDGE_SUFFIXES
    from msrn.visualize.label_graph import FIGURE_SUFFIXES

    for flag, known in (("draw", FIGURE_SUFFIXES), ("edges", EDGE_SUFFIXES)):
        if args.get(flag) and Path(args[flag]).suffix.lower() not in known:
            told = f"expected a file that ends in {', '.join(known[:-1])} or {known[-1]}, got {args[flag]!r}"
            raise ConfigError(told, f"--{flag}")
    refuse_to_overwrite(files, force=args.get("force", False))
    page = label_page(settings, bundle=bundle)
    write_page_files(page, draw=args.get("draw"), edges=args.get("edges"))
    texts = [graph_text(page)] if args.get("part") == "graph" else [names_text(page), graph_text(page)]
    print(page_json(page) if args.get("json") else "\n\n".join(texts))
    if files:
        print(*files, sep="\n", file=sys.stderr)
    return 0


def _data(args: Namespace) -> int:
    from msrn.data_cli import DATA_COMMANDS

    given = args[args.subcommand]
    settings = _settings(given)
    if "print_config" in given:
        return _print_config(settings)
    return DATA_COMMANDS[args.subcommand](given, settings)


def _summary(args: Namespace) -> int:
    bundle = args.get("bundle")
    settings = _settings(args, _bundle_settings(Path(bundle)) if bundle else None)
    if "print_config" in args:
        return _print_config(settings)
    from msrn.profiling.summary import summarize, summary_json, summary_text

    summary = summarize(settings, bundle=bundle, num_labels=args.get("num_labels"))
    print(summary_json(summary) if args.get("json") else summary_text(summary))
    return 0


COMMANDS = {
    "demo": _demo,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "labels": _labels,
    "data": _data,
    "summary": _summary,
}


def _told(error: Exception, arguments: Sequence[str]) -> MsrnError:
    """The parser's complaint in our words."""
    command = arguments[0] if arguments[0] in COMMANDS else ""
    known = [f"--{name}.{field}" for name, section in SECTIONS.items() for field in section.model_fields]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    strange = re.search(r"--[\w.]+", lines[0]) if "nrecognized" in lines[0] or "not expected" in lines[0] else None
    near = did_you_mean(strange[0], known) if strange else ""
    text = re.sub(
        r"\d+ validation errors? for \S+; |\s*\[type=[^]]*\]|For further information visit \S+ ?", "", "; ".join(lines)
    )
    text = text.replace("a typing.Literal", "one of ").replace('":; ', '": ').replace(". Got value", "; got")
    if section := re.match(r'(?:Parser key )?"(\S+)": Unable to load config \'(.*?)\';', text):
        told = f"expected a YAML file of settings, or one of them by name (--{section[1]}.NAME), got {section[2]}"
        return ConfigError(told, f"--{section[1]}", f"see msrn {command} --help")
    return ConfigError(
        text.removeprefix("Parser key "), "command line", near or f"see msrn {command} --help".replace("  ", " ")
    )


def _settings(args: Namespace, base: dict[str, Any] | None = None, over: dict[str, Any] | None = None) -> Settings:
    """Preset (or a run's settings), file, flags: in this order."""
    tree = dict(base or {})
    if args.get("preset"):
        tree = merge(tree, preset(args.preset))
    if args.get("config"):
        tree = merge(tree, read_yaml(args.config))
    flags = {name: args[name].as_dict() for name in SECTIONS if args.get(name) is not None}
    return load_settings(merge(merge(tree, flags), over or {}), where=str(args.get("config") or "settings"))


def _bundle_settings(bundle: Path) -> dict[str, Any]:
    from msrn.bundle.files import read_facts

    return dict(read_facts(bundle)["settings"])


def _print_config(settings: Settings) -> int:
    print(settings.to_yaml(), end="")
    return 0


def _new_folder(settings: Settings) -> str:
    from datetime import datetime

    return f"runs/{settings.preset or settings.data.format}-{datetime.now():%Y%m%d-%H%M%S}"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="msrn",
        description="Train, judge and use multi-label image taggers.",
        version=__version__,
        exit_on_error=False,
    )
    commands = parser.add_subcommands(required=True)

    demo = _command("Draw scenes, fine-tune MSRN on them, judge it and tag pictures: a few minutes on two cores.")
    demo.add_argument("--folder", type=str, default="runs/demo", help="where everything is written")
    commands.add_subcommand("demo", demo, help="the main job, on drawn scenes, in a few minutes")

    train = _command("Train a tagger. Without --run.folder the run goes to runs/.", settings=True)
    train.add_argument("--resume", type=str, help="run folder to go on with, exactly where it stopped")
    commands.add_subcommand("train", train, help="train a tagger on a labelled set of pictures")

    evaluate = _command("Judge a bundle on a split of a labelled set; settings start from the bundle's.", settings=True)
    evaluate.add_argument("bundle", type=str, help="bundle or run folder")
    evaluate.add_argument("--split", type=Literal["train", "val", "test"], default="val", help="which split of data.*")
    evaluate.add_argument("--tuned", type=bool, default=False, help="use the bundle's thresholds in place of 0.5")
    evaluate.add_argument("--out", type=str, help="JSON file to write; default: beside the bundle")
    commands.add_subcommand("evaluate", evaluate, help="judge a bundle on a labelled set of pictures")

    predict = _command("Tag pictures: one row each, in order. Folders, tar and parquet files are looked into.")
    predict.add_argument("bundle", type=str, help="bundle or run folder")
    predict.add_argument("files", type=str, nargs="+", help="pictures, folders, tar shards and parquet files")
    predict.add_argument(
        "--format", type=Literal["table", "json", "csv"], default="table", help="json: one object a line"
    )
    predict.add_argument("--threshold", type=float, help="probability for all labels; default: the bundle's, per label")
    predict.add_argument("--top", type=int, help="show only the best labels, this many; default: all in json and csv")
    predict.add_argument("--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="where to compute")
    predict.add_argument("--optimize", action="store_true", help="try faster forms of the network on the first batch")
    predict.add_argument("--batch_size", type=int, default=32, help="pictures at a time")
    predict.add_argument("--workers", type=int, default=2, help="threads that read pictures")
    commands.add_subcommand("predict", predict, help="tag pictures with a bundle")

    labels = _command("Show how label names were found among the word vectors, and the label graph.", settings=True)
    labels.add_argument("part", type=Literal["all", "graph"], nargs="?", help="graph: leave the label names out")
    labels.add_argument("--bundle", type=str, help="show what a bundle learnt, with its groups, in place of a data set")
    labels.add_argument("--draw", type=str, help="picture of the graph to write, as .svg, .png or .pdf")
    labels.add_argument("--edges", type=str, help="edges to write, .csv, .tsv, .json or .npz; see labels.graph_file")
    labels.add_argument("--json", action="store_true", help="one JSON object in place of the tables")
    labels.add_argument("--force", action="store_true", help="overwrite what --draw and --edges find there")
    commands.add_subcommand("labels", labels, help="show label vectors and the label graph of a set or a bundle")

    data = ArgumentParser(description="Look after labelled sets of pictures.", exit_on_error=False)
    commands.add_subcommand("data", data, help="check, show, convert and split labelled sets of pictures")

    summary = _command("Show what a model costs: parameters, FLOPs and memory, by part. Nothing is run.", settings=True)
    summary.add_argument("bundle", type=str, nargs="?", help="bundle or run folder; none: the model of the settings")
    summary.add_argument("--num_labels", type=int, help="number of labels, where no data are at hand to count them")
    summary.add_argument("--json", action="store_true", help="one JSON object, in bytes and FLOPs, in place of tables")
    commands.add_subcommand("summary", summary, help="show parameters, FLOPs and memory of a model, by part")

    add_data_parsers(data, _command)  # after all others: the parser wants its levels in order
    return parser


def _command(description: str, *, settings: bool = False, sections: Iterable[str] = SECTIONS) -> ArgumentParser:
    parser = ArgumentParser(description=description, exit_on_error=False)
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    if settings:
        parser.add_argument("--preset", type=str, help=f"recipe to start from: {', '.join(preset_names())}")
        parser.add_argument("--config", type=str, help="YAML file of settings, over the preset")
        parser.add_argument("--print_config", type=str, nargs="?", help="print the resolved settings and stop")
        for name in sections:
            parser.add_class_arguments(SECTIONS[name], name)
    return parser
