"""Which commands of ``msrn data`` are there? A file of its own, for ``cli`` would grow past reading.

Each is one entry in ``DATA_COMMANDS`` and one parser in ``add_data_parsers``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from msrn.config import Settings
from msrn.errors import ConfigError, DataError, LabelError, Problem

__all__ = ["DATA_COMMANDS", "add_data_parsers", "format_of"]

DATA: dict[str, Any] = {"settings": True, "sections": ("data",)}
SOURCE = "a table, manifest, folder, pattern of shards, or a split's name: what data.train would say"


def add_data_parsers(parser: ArgumentParser, command: Callable[..., ArgumentParser]) -> None:
    """Add the parsers; ``command(description, **DATA)`` makes one that also takes the settings of ``data``."""
    commands = parser.add_subcommands(required=True)

    convert = command("Write a data set in another format that holds all it says, or refuse to.", **DATA)
    convert.add_argument("source", type=str, help=SOURCE)
    convert.add_argument("out", type=str, help="file to write, or for webdataset a folder")
    convert.add_argument(
        "--to",
        type=Literal["manifest", "table", "coco", "webdataset"],
        help="default: table for .csv and .tsv, coco for .json, webdataset without a suffix, else manifest",
    )
    convert.add_argument("--shard_size", type=int, default=1000, help="webdataset: pictures per shard")
    convert.add_argument("--force", action="store_true", help="overwrite what is there")
    commands.add_subcommand("convert", convert, help="write a data set in another format")

    split = command("Split a data set so that each part has its share of every label.", **DATA)
    split.add_argument("source", type=str, help=SOURCE)
    split.add_argument("out", type=str, help="folder for the manifests, one JSON lines file per part")
    split.add_argument("--parts", type=str, default="train=0.8,val=0.2", help="names and shares, such as train=0.8")
    split.add_argument("--seed", type=int, default=0, help="of the choice between parts that want a picture equally")
    split.add_argument("--groups", type=str, nargs="+", help="tables of image and group; groups stay together")
    split.add_argument("--group_column", type=str, default="group", help="column of the group in those tables")
    split.add_argument("--group_pattern", type=str, help="regular expression: its first bracket, in the file name")
    split.add_argument("--force", action="store_true", help="overwrite manifests that are there")
    commands.add_subcommand("split", split, help="split a data set by iterative stratification")

    check = command("Open every picture of a data set, and say what is wrong with pictures, splits and labels.", **DATA)
    check.add_argument("sources", type=str, nargs="*", help=f"each {SOURCE}; none: data.train, data.val, data.test")
    check.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    check.add_argument("--examples", type=int, default=3, help="examples of each kind in the table")
    check.add_argument("--near", type=int, default=8, help="bits of 64 in which near duplicates differ; -1: skip them")
    check.add_argument("--least_train", type=int, default=10, help="pictures a label needs to be learnt")
    check.add_argument("--least_test", type=int, default=5, help="pictures a label needs to be judged")
    check.add_argument("--groups", type=str, help="JSON lines to write: pictures that must not be split apart")
    check.add_argument("--fix", type=str, help="folder for new manifests, without what is wrong with pictures")
    check.add_argument("--workers", type=int, help="processes that read pictures; default: one per core")
    check.add_argument("--force", action="store_true", help="overwrite what --fix and --groups find there")
    commands.add_subcommand("check", check, help="open every picture, and say what is wrong with a data set")

    show = command("Draw a data set as one page: labels, which go together, sizes, and samples of pictures.", **DATA)
    show.add_argument("sources", type=str, nargs="*", help=f"each {SOURCE}; none: data.train, data.val, data.test")
    show.add_argument("--out", type=str, required=True, help="HTML file to write; it needs no other file")
    show.add_argument("--title", type=str, help="of the page; default: what the data set is called")
    show.add_argument("--samples", type=int, default=6, help="pictures per label; 0: none")
    show.add_argument("--threshold", type=float, default=0.4, help="least P(j|i) that makes an edge of the graph")
    show.add_argument("--seed", type=int, default=0, help="of the choice of samples")
    show.add_argument("--force", action="store_true", help="overwrite the file")
    commands.add_subcommand("show", show, help="draw a data set as one self-contained page")


def format_of(source: str) -> str | None:
    """The format that a source's suffix shows; None where it could be several."""
    suffix = Path(source).suffix.lower()
    if suffix in {".jsonl", ".ndjson"}:
        try:
            with open(source, encoding="utf-8-sig") as file:
                return "manifest" if '"msrn_manifest"' in file.read(100) else "table"
        except (OSError, UnicodeDecodeError):
            return "table"
    formats = {".csv": "table", ".tsv": "table", ".tar": "webdataset", ".parquet": "parquet", ".arrow": "parquet"}
    return formats.get(suffix)


def _manifest(args: Namespace, settings: Settings, source: str | None = None) -> Any:
    from msrn.data import READERS
    from msrn.labels.space import LabelSpace

    data, source = settings.data, args.source if source is None else source
    if not (args.get("preset") or args.get("config") or "format" in (args.get("data") or {})):
        kind = format_of(source)
        if kind is None:
            hint = "pass --data.format, or --preset"
            raise ConfigError("the format of the data set does not show in its name", source, hint)
        data = data.model_copy(update={"format": kind})
    labels = LabelSpace.read(data.labels) if data.labels else None
    return READERS[data.format](data, source, labels)


def _sources(args: Namespace, settings: Settings) -> list[str]:
    """The splits asked for, or those of the settings."""
    if args.get("sources"):
        return list(dict.fromkeys(args.sources))
    told = args.get("data") or {}
    if not (args.get("preset") or args.get("config") or any(name in told for name in ("train", "format", "root"))):
        hint = "name its splits, or pass --preset, --data.format and --data.root, or --data.train"
        raise ConfigError("expected a data set", "command line", hint)
    named = (settings.data.train, settings.data.val, settings.data.test)
    return list(dict.fromkeys(split for split in named if split not in {"", "none"}))


def _convert(args: Namespace, settings: Settings) -> int:
    from msrn.data.writers.convert import convert

    suffix = Path(args.out).suffix.lower()
    usual = {".csv": "table", ".tsv": "table", ".json": "coco", "": "webdataset"}
    form = args.get("to") or usual.get(suffix, "manifest")
    manifest = _manifest(args, settings)
    size = args.get("shard_size", 1000)
    written = convert(manifest, args.out, form, force=args.get("force", False), shard_size=size)
    print(f"{len(manifest):,} pictures, {len(manifest.labels):,} labels ({manifest.source}) as {form}: {written}")
    return 0


def _split(args: Namespace, settings: Settings) -> int:
    from msrn.data.split import split_manifest, split_report
    from msrn.data.split_groups import groups_by_name, read_groups
    from msrn.data.writers.convert import refuse_to_overwrite

    parts = _parts(args.get("parts", "train=0.8,val=0.2"))
    folder = Path(args.out)
    files = {name: folder / f"{name}.jsonl" for name in parts}
    refuse_to_overwrite(list(files.values()), force=args.get("force", False))
    manifest = _manifest(args, settings)
    groups = [read_groups(path, column=args.get("group_column", "group")) for path in args.get("groups") or ()]
    if args.get("group_pattern"):
        groups.append(groups_by_name(manifest, args.group_pattern))
    split = split_manifest(manifest, parts, seed=args.get("seed", 0), groups=groups)
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        split[name].write(path)
    print(split_report(split))
    print("\n".join(str(path) for path in files.values()), file=sys.stderr)
    return 0


def _check(args: Namespace, settings: Settings) -> int:
    from rich.console import Console

    from msrn.audit.check import check_data
    from msrn.audit.fixes import changes_text, mended_files, write_mended
    from msrn.audit.hashes import MAX_BITS, NEAR_BITS, require_imagehash
    from msrn.audit.output import check_json, check_text, groups_text, write_text
    from msrn.data.writers.convert import refuse_to_overwrite
    from msrn.engine.tracking import progress_bar

    force, near = args.get("force", False), args.get("near")
    if near is not None and not -1 <= near <= MAX_BITS:
        raise ConfigError(f"expected -1 to {MAX_BITS}, got {near}", "--near", "8, or -1 to skip near duplicates")
    if near is not None and near >= 0:
        require_imagehash()  # without the flag, a note in the report does
    if args.get("groups"):
        refuse_to_overwrite([Path(args.groups)], force=force)
    manifests, broken = _readable(args, settings)
    if broken and args.get("fix"):
        raise DataError.of(broken, "no manifests are written while a split cannot be read")
    if args.get("fix"):
        refuse_to_overwrite(mended_files(manifests, args.fix), force=force)
    workers = args.get("workers") or len(os.sched_getaffinity(0))
    with progress_bar("pictures", sum(map(len, manifests))) as ticker:
        check = check_data(
            manifests,
            near_bits=None if near == -1 else NEAR_BITS if near is None else near,
            least_train=args.get("least_train", 10),
            least_test=args.get("least_test", 5),
            broken=broken,
            workers=workers,
            advance=ticker.advance,
        )
    if args.get("json"):
        print(check_json(check))
    else:
        console = Console()
        width = console.width if console.is_terminal else 120
        print(check_text(check, examples=args.get("examples", 3), width=width, colour=console.is_terminal))
    if args.get("groups"):
        write_text(args.groups, groups_text(check))
        print(f"groups: {args.groups}", file=sys.stderr)
    if args.get("fix"):
        paths, changes = write_mended(check, args.fix, force=force)
        print(changes_text(changes), *paths, sep="\n", file=sys.stderr)
    return 1 if check.counts["error"] else 0


def _show(args: Namespace, settings: Settings) -> int:
    from msrn.audit.output import write_text
    from msrn.data.writers.convert import refuse_to_overwrite
    from msrn.report.data_set import show_data

    out = Path(args.out)
    refuse_to_overwrite([out], force=args.get("force", False))
    if not 0 <= args.get("samples", 6) <= 100:
        raise ConfigError(f"expected 0 to 100, got {args.samples}", "--samples")
    page = show_data(
        [_manifest(args, settings, source) for source in _sources(args, settings)],
        title=args.get("title", ""),
        samples=args.get("samples", 6),
        least=args.get("threshold", 0.4),
        seed=args.get("seed", 0),
    )
    write_text(out, page)
    print(f"{out}: {len(page.encode()) / 1e6:.1f} MB")
    return 0


def _readable(args: Namespace, settings: Settings) -> tuple[list[Any], list[Problem]]:
    """Those of the splits asked for that can be read, and what is wrong with the others; raises if none can."""
    manifests, broken = [], []
    for source in _sources(args, settings):
        try:
            manifests.append(_manifest(args, settings, source))
        except (DataError, LabelError) as error:
            broken.append(error)
    if not manifests:
        raise broken[0]
    return manifests, [problem for error in broken for problem in error.problems]


def _parts(text: str) -> dict[str, float]:
    pairs = [part.partition("=") for part in text.split(",")]
    parts: dict[str, float] = {}
    for name, _, share in pairs:
        if not re.fullmatch(r"[\w-]+", name.strip()) or name.strip() in parts:
            raise ConfigError(f"expected different names with shares, got {text!r}", "--parts", "train=0.8,val=0.2")
        try:
            parts[name.strip()] = float(share)
        except ValueError:
            raise ConfigError(f"expected a number after {name}=, got {share!r}", "--parts", "train=0.8") from None
    return parts


DATA_COMMANDS: dict[str, Callable[[Namespace, Settings], int]] = {
    "convert": _convert,
    "split": _split,
    "check": _check,
    "show": _show,
}
"""Name to function of (arguments, settings); it returns the exit code."""
