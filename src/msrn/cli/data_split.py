"""``msrn data split``: split a data set by iterative stratification."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from msrn.cli.arguments import data_settings, print_config
from msrn.cli.command import Command
from msrn.cli.data_sources import SOURCE_HELP, SOURCE_SETTINGS, read_source
from msrn.errors import ConfigError

__all__ = ["COMMAND"]


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("source", help=SOURCE_HELP)
    parser.add_argument("out", help="folder for the manifests, one JSON lines file per part")
    parser.add_argument("--parts", default="train=0.8,val=0.2", help="names and shares (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the choice between parts that need an image equally (%(default)s)"
    )
    parser.add_argument(
        "--split_groups",
        nargs="+",
        default=(),
        metavar="FILE",
        help="tables of image and group; the images of a group stay in one part",
    )
    parser.add_argument("--group_column", default="group", help="column of the group in those tables (%(default)s)")
    parser.add_argument(
        "--group_pattern",
        metavar="REGEX",
        help="split groups by file name: the text that the first bracket of the pattern matches",
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing manifests")


def run(args: Namespace) -> int:
    """Split, write the manifests, and print the table."""
    data = data_settings(args)
    if args.print_config:
        return print_config(args, data)
    from msrn.data.split import split_manifest, split_report
    from msrn.data.split_groups import read_split_groups, split_groups_by_name
    from msrn.files import atomic_paths, refuse_to_overwrite

    parts = _parts(args.parts)
    folder = Path(args.out)
    files = {name: folder / f"{name}.jsonl" for name in parts}
    refuse_to_overwrite(list(files.values()), force=args.force)
    manifest = read_source(args, data, args.source)
    groups = [read_split_groups(path, column=args.group_column) for path in args.split_groups]
    if args.group_pattern:
        groups.append(split_groups_by_name(manifest, args.group_pattern))
    split = split_manifest(manifest, parts, seed=args.seed, split_groups=groups)
    with atomic_paths(list(files.values()), parents=True) as partials:
        for name, partial in zip(files, partials, strict=True):
            split[name].write(partial)
    print(split_report(split))
    print("\n".join(str(path) for path in files.values()), file=sys.stderr)
    return 0


def _parts(text: str) -> dict[str, float]:
    parts: dict[str, float] = {}
    for name, _, share in (part.partition("=") for part in text.split(",")):
        if not re.fullmatch(r"[\w-]+", name.strip()) or name.strip() in parts:
            raise ConfigError(f"expected different names with shares, got {text!r}", "--parts", "train=0.8,val=0.2")
        try:
            parts[name.strip()] = float(share)
        except ValueError:
            raise ConfigError(f"expected a number after {name}=, got {share!r}", "--parts", "train=0.8") from None
    return parts


COMMAND = Command(
    summary="split a data set by iterative stratification",
    description="Split a data set so that each part has its share of every label.",
    arguments=arguments,
    run=run,
    settings=SOURCE_SETTINGS,
)
