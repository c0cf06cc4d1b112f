"""Command-line arguments: plain flags by argparse, and settings as flags such as ``--data.root``.

Setting flags are not declared one by one: which exist depends on the parts that preset, file and flags choose. They are
collected as texts, read as the field's type asks, and checked with the whole tree, so that a wrong one is reported by
the settings' own messages.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from msrn.cli.command import Command
from msrn.cli.parser import Parser
from msrn.cli.settings_help import settings_help
from msrn.config import (
    PARTS,
    DataSettings,
    Settings,
    load_settings,
    merge,
    parse_yaml,
    section_model,
    setting_fields,
    validate,
)
from msrn.errors import ConfigError, did_you_mean
from msrn.presets import preset, preset_names, read_yaml

__all__ = ["SECTIONS", "command_parser", "data_settings", "only", "parse", "print_config", "resolve"]

SECTIONS = tuple(name for name in Settings.model_fields if name != "preset")


def parse(name: str, command: Command, arguments: Sequence[str]) -> Namespace | None:
    """The arguments of a command, with its setting flags under ``flags`` as a tree of texts; None: help was printed.

    Raises:
        ConfigError: an unknown flag, a wrong or missing value, a setting that the command does not read.
    """
    parser = command_parser(name, command)
    plain, pairs = _split(arguments, parser)
    flags = _tree(pairs)
    options = plain[: plain.index("--")] if "--" in plain else plain
    if "-h" in options or "--help" in options:
        print(_full_help(parser, command, plain, flags), end="")
        return None
    for token in options:
        if token.startswith("--") and (flag := token.partition("=")[0]) not in parser.flags:
            base = _base_arguments(plain)
            base.command, base.flags = command, flags
            raise _unknown(flag, base, parser)  # before its value is taken for a positional argument
    args, unknown = parser.parse_known_args(plain)
    args.command, args.flags, args.paths = command, flags, [path for path, _ in pairs]
    if unknown:
        raise _unknown(unknown[0].partition("=")[0], args, parser)
    for path in args.paths:
        _must_be_read(path, args, parser.prog)
    return args


def resolve(args: Namespace, base: Mapping[str, Any] | None = None, over: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a command: preset (or ``base``), file, flags, in this order; ``over`` has the last word."""
    tree = merge(_typed(_base_tree(args, base), args.flags), over or {})
    if not any(read in ("data", "data.batch_size") for read in args.command.settings):
        tree = _batch_for_each_process(tree)
    return load_settings(tree, _where(args))


def _batch_for_each_process(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with a training batch that any number of processes can share, for commands that train nothing."""
    data, run = (each if isinstance(each := tree.get(name), Mapping) else {} for name in ("data", "run"))
    size = data.get("batch_size", DataSettings.model_fields["batch_size"].default)
    devices = run.get("devices", 1)
    if not isinstance(size, int) or not isinstance(devices, int):
        return tree  # which is refused
    return merge(tree, {"data": {"batch_size": size * devices}}) if devices > 1 else tree


def data_settings(args: Namespace) -> DataSettings:
    """The section ``data`` alone, for commands that read no other: no head or loss is imported."""
    tree = _typed(_base_tree(args), args.flags)
    return validate(DataSettings, tree.get("data", {}), _where(args), prefix="data")


def _base_tree(args: Namespace, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Preset and file, over ``base``, without the flags. The preset is that of ``--preset`` or the file.

    Raises:
        ConfigError: file and flag name different presets. Others: as reading them does.
    """
    file = read_yaml(args.config) if getattr(args, "config", None) else {}
    named, wanted = file.get("preset"), getattr(args, "preset", None)
    if named and wanted and named != wanted:
        raise ConfigError(f"the settings stand on preset {named}, got --preset {wanted}", args.config, "leave one out")
    tree = dict(base or {})
    if wanted or named:
        tree = merge(tree, preset(str(wanted or named), "--preset" if wanted else args.config))
    return merge(tree, file)


def print_config(args: Namespace, settings: BaseModel) -> int:
    """Print the settings that the command reads as YAML; the exit code is 0."""
    tree = settings.model_dump(mode="json")
    tree = {"data": tree} if isinstance(settings, DataSettings) else tree
    kept = {name: tree[name] for name in ("preset",) if name in tree}
    kept |= only(tree, args.command.settings, "")
    print(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True), end="")
    return 0


def command_parser(name: str, command: Command) -> Parser:
    """The parser of a command's plain arguments; settings are not among them."""
    parser = Parser(name, command.description)
    command.arguments(parser)
    if command.settings:
        parser.add_argument("--preset", metavar="NAME", help=f"recipe to start from: {', '.join(preset_names())}")
        parser.add_argument("--config", metavar="FILE", help="YAML file of settings, over the preset")
        parser.add_argument("--print_config", action="store_true", help="print the resolved settings and stop")
    parser.add_argument("--debug", action="store_true", help=SUPPRESS)
    return parser


def _split(arguments: Sequence[str], parser: Parser) -> tuple[list[str], list[tuple[str, str]]]:
    """Plain arguments, and the setting flags as pairs of path and text."""
    plain: list[str] = []
    pairs: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        if token == "--":
            return [*plain, token, *rest], pairs
        flag, equals, value = token.partition("=")
        path = flag.removeprefix("--")
        setting = flag.startswith("--") and path.partition(".")[0] in SECTIONS and flag not in parser.flags
        takes_value = setting or parser.takes_value(flag)
        if takes_value and not equals and (not rest or rest[0].startswith("--")):
            raise ConfigError(f"expected a value after {flag}", "command line", f"{flag} VALUE")
        switch = flag in parser.flags and not takes_value
        given = value if equals else rest[0] if rest and rest[0].lower() in ("true", "false") else ""
        if switch and (equals or given):
            raise ConfigError(
                f"{flag} takes no value, got {given!r}", "command line", f"write {flag} alone, or leave it out"
            )
        if setting:
            pairs.append((path, value if equals else rest.pop(0)))
        else:
            plain.append(token)
    return plain, pairs


def _tree(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Nested texts; a part named by its section alone becomes that section's name."""
    tree: dict[str, Any] = {}
    for path, value in pairs:
        keys = path.split(".")
        if path in PARTS:
            keys.append("name")
        here = tree
        for place, key in enumerate(keys[:-1], start=1):
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise ConfigError(f"--{'.'.join(keys[:place])} is given a value and used as a section", "command line")
        if len(keys) == 1 or not keys[-1] or isinstance(here.get(keys[-1]), dict):
            raise ConfigError(
                f"--{path} is a section of settings", "command line", f"name a setting: --{path.rstrip('.')}.NAME"
            )
        here[keys[-1]] = value
    return tree


def _unknown(flag: str, args: Namespace, parser: Parser) -> ConfigError:
    """The error for an argument that nothing reads, with the nearest flag of the command and of the chosen parts."""
    if not flag.startswith("-"):
        return ConfigError(f"unexpected argument {flag!r}", "command line", f"see {parser.prog} --help")
    known = [*parser.flags, *(f"--{path}" for path in _readable(args))]
    return ConfigError(f"unknown option {flag}", "command line", did_you_mean(flag, known) or _see_help(parser.prog))


def _must_be_read(path: str, args: Namespace, prog: str) -> None:
    reads = args.command.settings
    if any(f"{path}.".startswith(f"{read}.") for read in reads):
        return
    if not reads:
        raise ConfigError(f"{prog} reads no settings, got --{path}", "command line", _see_help(prog))
    if any(path == known for known, _, _ in setting_fields(merge(_base_tree(args), args.flags), only=[path])):
        raise ConfigError(f"{prog} does not read the setting {path}", "command line", _see_help(prog))
    known = [f"--{each}" for each in _readable(args)]
    hint = did_you_mean(f"--{path}", known) or _see_help(prog)
    raise ConfigError(f"unknown setting {path}", "command line", hint)


def _readable(args: Namespace) -> list[str]:
    """The settings that a command reads, with the options of the parts that preset, file and flags choose."""
    if not args.command.settings:
        return []
    tree = merge(_base_tree(args), args.flags)
    return [path for path, _, _ in setting_fields(tree, only=args.command.settings)]


def _see_help(prog: str) -> str:
    return f"{prog} --help lists what it reads"


def _typed(tree: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with the flags on top, each read as the field that it sets."""
    return merge(tree, _read_section(Settings, flags, merge(tree, flags), ""))


def _read_section(model: type[BaseModel] | None, flags: Mapping[str, Any], chosen: Any, at: str) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for key, value in flags.items():
        path = f"{at}.{key}".lstrip(".")
        field = model.model_fields.get(key) if model else None
        below = chosen.get(key) if isinstance(chosen, Mapping) else None
        if isinstance(value, Mapping):
            read[key] = _read_section(section_model(path, field, below), value, below, path)
        else:
            read[key] = _read_value(field.annotation if field else str, value)
    return read


def _read_value(annotation: Any, text: str) -> Any:
    """A flag's text: as it is for a text, otherwise as YAML reads it."""
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    value: Any = text
    if annotation is not str and not (choices and all(isinstance(choice, str) for choice in choices)):
        try:
            value = parse_yaml(text)
        except ValueError:
            value = text
        if value is None and str in get_args(annotation):
            value = text
    return value


def only(tree: Mapping[str, Any], reads: Collection[str], at: str) -> dict[str, Any]:
    """The part of a tree that ``reads``, sections and fields, name."""
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{at}.{key}".lstrip(".")
        if path in reads:
            kept[key] = value
        elif any(read.startswith(f"{path}.") for read in reads):
            kept[key] = only(value, reads, path)
    return kept


def _full_help(parser: Parser, command: Command, plain: list[str], flags: Mapping[str, Any]) -> str:
    if not command.settings:
        return parser.format_help()
    tree = _typed(_base_tree(_base_arguments(plain)), flags)
    return f"{parser.format_help()}\n{settings_help(tree, command.settings)}"


def _base_arguments(plain: Sequence[str]) -> Namespace:
    """Preset and file among plain arguments, whatever else is wrong with them."""
    some = ArgumentParser(add_help=False, allow_abbrev=False)
    some.add_argument("--preset")
    some.add_argument("--config")
    args, _ = some.parse_known_args([token for token in plain if token not in ("-h", "--help")])
    return args


def _where(args: Namespace) -> Callable[[str], str]:
    """Where a setting was given: a file, a preset, the command line."""
    source = str(args.config or (f"preset {args.preset}" if args.preset else ""))

    def where(path: str) -> str:
        if any(path == given or (given not in PARTS and path.startswith(f"{given}.")) for given in args.paths):
            return "command line"
        within = any(not path or given.startswith(f"{path}.") for given in args.paths)
        return ", ".join([*([source] if source else []), *(["command line"] if within else [])]) or "settings"

    return where
