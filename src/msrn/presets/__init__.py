"""Presets: recipes that come with the package, and settings files of the user's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from msrn.config import merge, parse_yaml
from msrn.errors import ConfigError, did_you_mean, reason

__all__ = ["preset", "preset_names", "read_settings_file", "read_yaml"]


def preset_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files(__name__)
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset(name: str, where: str = "--preset") -> dict[str, Any]:
    """A recipe that comes with the package, as a tree of plain values.

    Raises:
        ConfigError: there is no such preset.
    """
    names = preset_names()
    if name not in names:
        hint = did_you_mean(name, names) or f"the presets are {', '.join(names)}"
        raise ConfigError(f"there is no preset {name!r}", where, hint)
    text = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    return {"preset": name, **(parse_yaml(text) or {})}


def read_settings_file(path: str | Path) -> dict[str, Any]:
    """A YAML file of settings as a tree of plain values; where it names a ``preset``, over that preset.

    Raises:
        ConfigError: as ``read_yaml``, or the file names an unknown preset.
    """
    tree = read_yaml(path)
    if not tree.get("preset"):
        return tree
    return merge(preset(str(tree["preset"]), str(path)), tree)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file of sections as a tree of plain values.

    Raises:
        ConfigError: the file is absent, no YAML, no mapping, or repeats a key.
    """
    try:
        tree = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read settings: {reason(error)}", str(path), "expected a YAML file") from error
    if not isinstance(tree, dict):
        raise ConfigError("expected sections such as data: and model:", str(path), "see --print_config")
    return tree
