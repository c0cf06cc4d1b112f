"""The settings of a command as help text: flags with their current values and descriptions."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from textwrap import fill
from typing import Any, Literal, get_args, get_origin

from msrn import registry
from msrn.config import PARTS, setting_fields

__all__ = ["settings_help"]

TITLE = "settings (preset, then --config, then these flags; later ones win; the current value is in parentheses):"


def settings_help(tree: Mapping[str, Any], reads: Collection[str]) -> str:
    """The settings that a command reads, with the options of the parts that the tree chooses.

    Args:
        tree: preset, file and flags.
        reads: sections and fields that the command reads.
    """
    width = min(120, shutil.get_terminal_size().columns - 2)
    lines = [fill(TITLE, width)]
    for path, field, value in setting_fields(tree, only=reads):
        lines.append(f"  --{path}" + (f" ({_text(value)})" if value not in (None, "", {}, ()) else ""))
        choices = registry.names(PARTS[path]) if path in PARTS else _choices(field.annotation)
        sentences = [field.description or "", f"One of: {', '.join(choices)}" if choices else ""]
        text = ". ".join(sentence.rstrip(".") for sentence in sentences if sentence)
        if text:
            lines.append(fill(text, width, initial_indent=" " * 8, subsequent_indent=" " * 8, break_long_words=False))
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    """As it is written in a flag."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choices(annotation: Any) -> tuple[str, ...]:
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()
