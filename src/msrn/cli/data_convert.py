"""``msrn data convert``: write a data set in another format."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from msrn import registry
from msrn.cli.arguments import data_settings, print_config
from msrn.cli.command import Command
from msrn.cli.data_sources import SOURCE_HELP, SOURCE_SETTINGS, read_source
from msrn.errors import ConfigError

__all__ = ["COMMAND"]

WRITER_OF_SUFFIX = {".csv": "table", ".tsv": "table", ".json": "coco", "": "webdataset"}


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("source", help=SOURCE_HELP)
    parser.add_argument("out", help="file to write, or for webdataset a folder")
    parser.add_argument(
        "--to",
        choices=registry.names("writer"),
        help="default: table for .csv and .tsv, coco for .json, webdataset without a suffix, else manifest",
    )
    parser.add_argument("--shard_size", type=int, help="webdataset: images per shard")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def run(args: Namespace) -> int:
    """Convert, and print what was written."""
    data = data_settings(args)
    if args.print_config:
        return print_config(args, data)
    writer = args.to or WRITER_OF_SUFFIX.get(Path(args.out).suffix.lower(), "manifest")
    options = registry.options_class("writer", writer)
    given = {} if args.shard_size is None else {"shard_size": args.shard_size}
    if unread := given.keys() - options.model_fields.keys():
        raise ConfigError(f"the writer {writer} has no {', '.join(unread)}", f"--{min(unread)}")
    if args.shard_size is not None and args.shard_size < 1:
        raise ConfigError(f"expected at least 1 image per shard, got {args.shard_size}", "--shard_size")
    manifest = read_source(args, data, args.source)
    write = registry.load("writer", writer)
    written = write(options.model_validate({"name": writer, **given}), manifest, Path(args.out), force=args.force)
    print(f"{len(manifest):,} images, {len(manifest.labels):,} labels ({manifest.source}) as {writer}: {written}")
    return 0


COMMAND = Command(
    summary="write a data set in another format",
    description="Write a data set in another format. A format that cannot hold all of its labels is refused.",
    arguments=arguments,
    run=run,
    settings=SOURCE_SETTINGS,
)
