"""What every section of the settings is, and sections that choose a part by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from msrn import registry
from msrn.errors import ConfigError
from msrn.registry import Options

__all__ = ["DEFAULT_PARTS", "PARTS", "PositiveInt", "Section", "chosen"]

PARTS = {"data.reader": "reader", "model.head": "head", "loss": "loss", "optim.mix": "mix"}
"""Sections that choose a part by name, and the kind of part in the registry."""

DEFAULT_PARTS = {"reader": "table", "head": "msrn", "loss": "soft_margin", "mix": "none"}
"""The part of each kind that a section without a name chooses."""

PositiveInt = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def chosen(kind: str) -> BeforeValidator:
    """Check a name, or a section with a name, against the options of the part that it names."""

    def choose(value: Any) -> Options:
        if isinstance(value, Options):
            return value
        section = {"name": value} if isinstance(value, str) else value
        if not isinstance(section, Mapping):
            raise ValueError(f"expected the name of a {kind}, or a section with its options")
        section = {"name": DEFAULT_PARTS[kind], **section}
        if not isinstance(section["name"], str):
            raise ValueError(f"expected the name of a {kind}: {', '.join(registry.names(kind))}")
        try:
            options = registry.options_class(kind, section["name"])
        except ConfigError as error:
            raise PydanticCustomError(
                "unknown_part", "{message}", {"message": error.message, "hint": error.hint}
            ) from None
        return options.model_validate(section)  # a ValidationError keeps the places of its problems

    return BeforeValidator(choose)
