"""Pages: one HTML file each, from a template and plain values, which needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["render_page"]


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """A page of ``templates``; every text is escaped, and a value that the template misses is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("msrn.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(values)
