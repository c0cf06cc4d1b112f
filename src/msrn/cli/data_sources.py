"""What the commands of ``msrn data`` share: a source named on the command line, as a manifest."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from msrn import registry
from msrn.config import DataSettings, validate
from msrn.errors import ConfigError, DataError, LabelError, Problem

if TYPE_CHECKING:
    from msrn.data.manifest import Manifest

__all__ = [
    "SOURCE_HELP",
    "SOURCE_SETTINGS",
    "SPLIT_SETTINGS",
    "add_sources",
    "read_source",
    "readable_sources",
    "reader_of",
    "sources",
]

SOURCE_HELP = "a table, manifest, folder, pattern of shards, or the name of a split, as data.train"
SOURCE_SETTINGS = ("data.reader", "data.root", "data.labels")
SPLIT_SETTINGS = (*SOURCE_SETTINGS, "data.train", "data.val", "data.test")
READER_OF_SUFFIX = {
    ".csv": "table",
    ".tsv": "table",
    ".xlsx": "table",
    ".txt": "table",
    ".lst": "table",
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".arrow": "parquet",
}


def add_sources(parser: ArgumentParser) -> None:
    """Add the positional argument for several sources."""
    parser.add_argument("sources", nargs="*", help=f"each {SOURCE_HELP}; none: data.train, data.val and data.test")


def reader_of(source: str) -> str | None:
    """The reader that a source's suffix shows; None where it could be several."""
    from msrn.data.looks import look_of_file

    source = source.partition("::")[0]  # rows of one split of a table
    suffix = Path(source).suffix.lower()
    if suffix in {".jsonl", ".ndjson"}:
        try:
            with open(source, encoding="utf-8-sig") as file:
                return "manifest" if '"msrn_manifest"' in file.read(100) else "table"
        except (OSError, UnicodeDecodeError):
            return "table"
    if suffix in READER_OF_SUFFIX:
        # The name of a split may end in anything; a list or export is a file.
        return READER_OF_SUFFIX[suffix] if suffix not in {".txt", ".lst"} or Path(source).is_file() else None
    look = look_of_file(source)
    if look is None and suffix in {".json", ".manifest"} and Path(source).is_file():
        return "table"
    return (look.reader or None) if look else None


def read_source(args: Namespace, data: DataSettings, source: str) -> Manifest:
    """One source as a manifest, by the reader that the settings name or else its suffix shows.

    Raises:
        ConfigError: neither says which reader. DataError, LabelError: as reading it does.
    """
    from msrn.labels.space import LabelSpace

    options = data.reader
    given = args.flags.get("data", {}).get("reader", {})
    chosen = args.preset or args.config or isinstance(given, str) or "name" in given
    if not chosen:
        name = reader_of(source)
        if name is None:
            from msrn.data.looks import look_of_file, look_of_folder

            path = Path(source)
            look = look_of_folder(path) if path.is_dir() else look_of_file(path)
            hint = f"it looks like {look.what}: {look.hint}" if look else "pass --data.reader NAME, or --preset"
            raise ConfigError("the suffix does not show which reader the data set needs", source, hint)
        tree = {**given, "name": name}
        options = validate(registry.options_class("reader", name), tree, "command line", "data.reader")
    labels = LabelSpace.read(data.labels) if data.labels else None
    manifest: Manifest = registry.load("reader", options.name)(options, data.root, source, labels)
    return manifest


def sources(args: Namespace, data: DataSettings) -> list[str]:
    """The sources named, or the splits of the settings.

    Raises:
        ConfigError: neither is given.
    """
    if args.sources:
        return list(dict.fromkeys(args.sources))
    given = args.flags.get("data", {})
    if not (args.preset or args.config or any(name in given for name in ("train", "reader", "root"))):
        hint = "name its splits, or pass --preset, --data.reader and --data.root, or --data.train"
        raise ConfigError("expected a data set", "command line", hint)
    return list(dict.fromkeys(split for split in (data.train, data.val, data.test) if split not in {"", "none"}))


def readable_sources(args: Namespace, data: DataSettings) -> tuple[list[Manifest], list[Problem]]:
    """The sources that can be read, and what is wrong with the others; raises if none can."""
    from msrn.audit.split_names import name_splits

    manifests: list[Manifest] = []
    named: list[str] = []
    broken: list[DataError | LabelError] = []
    for source in sources(args, data):
        try:
            manifests.append(read_source(args, data, source))
            named.append(source)
        except (DataError, LabelError) as error:
            broken.append(error)
    if not manifests:
        raise broken[0]
    return name_splits(manifests, named), [problem for error in broken for problem in error.problems]
