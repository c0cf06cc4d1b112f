"""Which commands of ``msrn data`` are there? A file of its own, for ``cli`` would grow past reading.

Each is one entry in ``DATA_COMMANDS`` and one parser in ``add_data_parsers``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from msrn.config import Settings
from msrn.errors import ConfigError

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


def _manifest(args: Namespace, settings: Settings) -> Any:
    from msrn.data import READERS
    from msrn.labels.space import LabelSpace

    data = settings.data
    if not (args.get("preset") or args.get("config") or "format" in (args.get("data") or {})):
        kind = format_of(args.source)
        if kind is None:
            hint = "pass --data.format, or --preset"
            raise ConfigError("the format of the data set does not show in its name", args.source, hint)
        data = data.model_copy(update={"format": kind})
    labels = LabelSpace.read(data.labels) if data.labels else None
    return READERS[data.format](data, args.source, labels)


def _convert(args: Namespace, settings: Settings) -> int:
    from msrn.data.convert import convert

    suffix = Path(args.out).suffix.lower()
    usual = {".csv": "table", ".tsv": "table", ".json": "coco", "": "webdataset"}
    form = args.get("to") or usual.get(suffix, "manifest")
    manifest = _manifest(args, settings)
    size = args.get("shard_size", 1000)
    written = convert(manifest, args.out, form, force=args.get("force", False), shard_size=size)
    print(f"{len(manifest):,} pictures, {len(manifest.labels):,} labels ({manifest.source}) as {form}: {written}")
    return 0


def _split(args: Namespace, settings: Settings) -> int:
    from msrn.data.convert import refuse_to_overwrite
    from msrn.data.split import groups_by_name, read_groups, split_manifest, split_report

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


DATA_COMMANDS: dict[str, Callable[[Namespace, Settings], int]] = {"convert": _convert, "split": _split}
"""Name to function of (arguments, settings); it returns the exit code."""
