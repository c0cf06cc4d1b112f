"""Trees of plain values: merge them, walk their settings, check them against the settings classes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from msrn import registry
from msrn.config.section import DEFAULT_PARTS, PARTS
from msrn.config.settings import Settings
from msrn.errors import ConfigError, Problem, did_you_mean

__all__ = ["load_settings", "merge", "nest", "section_model", "setting_fields", "validate", "without_unknown"]

Model = TypeVar("Model", bound=BaseModel)

COMMAND_LINE = "command line"
"""Where a flag was given, in messages."""

EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "tuple_type": "a list such as [1, 2]",
    "dict_type": "a section such as {{key: value}}",
    "model_type": "a section of settings",
    "model_attributes_type": "a section of settings",
    "too_short": "at least {min_length} value",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
}
"""What a field expects, by pydantic's type of an error."""


def load_settings(tree: Mapping[str, Any], where: str | Callable[[str], str] = "settings") -> Settings:
    """Check a tree of plain values.

    Args:
        tree: sections and fields.
        where: where the tree came from, for messages; or a function that says so for a path such as ``optim.lr``.

    Raises:
        ConfigError: everything that is wrong with it, key by key, with the nearest known name of an unknown key.
    """
    return validate(Settings, tree, where)


def validate(
    model: type[Model], tree: Mapping[str, Any], where: str | Callable[[str], str] = "settings", prefix: str = ""
) -> Model:
    """Check a tree, or the section of it that ``prefix`` names, against its model.

    Raises:
        ConfigError: as ``load_settings``.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        known = [path for path, _, _ in setting_fields(tree, model, prefix)]
        details: dict[str, list[dict[str, Any]]] = {}
        for detail in error.errors():
            details.setdefault(_path([*filter(None, [prefix]), *detail["loc"]], known), []).append(dict(detail))
        problems = [
            _problem(same, path, known, where if isinstance(where, str) else where(path))
            for path, same in details.items()
            if same[0]["type"] != "too_short" or not any(other.startswith(f"{path}.") for other in details)
        ]
        raise ConfigError.of(problems, "invalid settings") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any], *, at: str = "") -> dict[str, Any]:
    """``base`` with the values of ``over``: sections are merged, lists replaced.

    Where ``over`` chooses another part, the options of the former part are dropped with it.
    """
    merged = dict(base)
    for key, value in over.items():
        place = f"{at}.{key}".lstrip(".")
        before = merged.get(key)
        if place in PARTS:
            before, value = _as_section(before), _as_section(value)
            if isinstance(value, Mapping) and isinstance(before, Mapping) and "name" in value:
                former = before.get("name", DEFAULT_PARTS[PARTS[place]])
                before = before if value["name"] == former else None
        both = isinstance(value, Mapping) and isinstance(before, Mapping)
        merged[key] = merge(dict(before or {}), value, at=place) if both else value
    return merged


def nest(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree in which dotted keys such as ``optim.lr`` became sections.

    Example:
        >>> nest({"optim.lr": 0.1, "optim": {"epochs": 3}})
        {'optim': {'lr': 0.1, 'epochs': 3}}
    """
    nested: dict[str, Any] = {}
    for key, value in tree.items():
        first, _, rest = str(key).partition(".")
        below = {rest: value} if rest else value
        nested = merge(nested, {first: nest(below) if isinstance(below, Mapping) else below})
    return nested


def without_unknown(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A tree that another version wrote, without the settings that this version does not have; and their paths."""
    known = [path for path, _, _ in setting_fields(tree)]
    unknown: list[str] = []

    def kept(section: Mapping[str, Any], at: str) -> dict[str, Any]:
        found = {}
        for key, value in section.items():
            path = f"{at}.{key}".lstrip(".")
            if path in PARTS or any(each.startswith(f"{path}.") for each in known):
                found[key] = kept(value, path) if isinstance(value, Mapping) else value
            elif path in known or (at in PARTS and key == "name"):
                found[key] = value
            else:
                unknown.append(path)
        return found

    return kept(tree, ""), unknown


def setting_fields(
    tree: Any, model: type[BaseModel] = Settings, at: str = "", *, only: Collection[str] = ()
) -> Iterator[tuple[str, FieldInfo, Any]]:
    """Every setting that a tree can hold: its path, its field, and its value in the tree or by default.

    A part stands there under its section's path, with its name as the value, before the options of the part that the
    tree chooses.

    Args:
        tree: sections and fields.
        model: what checks the tree.
        at: path of the tree within the settings.
        only: sections and fields to stay within; empty: all. The parts of other sections are not imported.
    """
    for key, field in model.model_fields.items():
        path = f"{at}.{key}".lstrip(".")
        if only and not any(f"{path}.".startswith(f"{each}.") or each.startswith(f"{path}.") for each in only):
            continue
        default = None if field.default_factory or field.is_required() else field.default
        value = tree.get(key, default) if isinstance(tree, Mapping) else default
        below = section_model(path, field, value)
        if path in PARTS:
            yield path, field, _part_name(path, value)
        elif below is None and not (at in PARTS and key == "name"):
            yield path, field, value
        if below is not None:
            yield from setting_fields(_as_section(value), below, path, only=only)


def section_model(path: str, field: FieldInfo | None, section: Any) -> type[BaseModel] | None:
    """The model that checks a section: of a part, that of the one chosen. None for a field and an unknown part."""
    if path in PARTS:
        kind, name = PARTS[path], _part_name(path, section)
        return registry.options_class(kind, name) if name in registry.names(kind) else None
    annotation = field.annotation if field else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _part_name(path: str, section: Any) -> Any:
    section = _as_section(section)
    default = DEFAULT_PARTS[PARTS[path]]
    return section.get("name", default) if isinstance(section, Mapping) else default


def _as_section(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _path(place: list[str | int], known: list[str]) -> str:
    """The path of an error; what pydantic adds to a setting's path for the types of a union is left out."""
    path = ""
    for part in place:
        within = (each for each in known if each not in PARTS)
        if isinstance(part, int) or not any(f"{path}.".startswith(f"{each}.") for each in within):
            path = f"{path}.{part}".lstrip(".")
    return path


def _problem(details: list[dict[str, Any]], path: str, known: list[str], where: str) -> Problem:
    """One problem of everything that pydantic found at one path: several things, if it tried several types."""
    detail = details[0]
    if detail["type"] == "extra_forbidden":
        section, _, last = path.rpartition(".")
        here = [each for each in known if each.rpartition(".")[0] == section]
        if not section:
            here = list(dict.fromkeys(each.partition(".")[0] for each in known))
        names = ", ".join(each.rpartition(".")[2] for each in here)
        elsewhere = [] if section in PARTS else known
        parts = [] if section in PARTS else [f"{part}.name" for part in PARTS]
        dashes = "--" if where == COMMAND_LINE else ""  # so that the hint can be typed as it stands
        near = (did_you_mean(name, [f"{dashes}{each}" for each in choices]) for name, choices in (
            (last, here), (path, parts), (last, elsewhere),
        ))  # fmt: skip
        hint = next(filter(None, near), f"known here: {names}" if here else "the part has no options")
        return Problem(f"unknown setting {path}", where, hint)
    if all(each["type"] in EXPECTED for each in details):
        expected = [EXPECTED[each["type"]].format(**each.get("ctx", {})) for each in details]
        message = f"expected {' or '.join(dict.fromkeys(expected))}, got {detail['input']!r}"
    else:
        message = str(detail["msg"]).removeprefix("Value error, ")
    return Problem(f"{path or 'settings'}: {message}", where, str(detail.get("ctx", {}).get("hint", "")))
