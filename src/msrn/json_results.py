"""Read typed results back from trees of plain values: the format version first, then every field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from msrn.errors import DataError, Problem

__all__ = ["ResultFormat"]

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ResultFormat:
    """A kind of result that is written as JSON: ``what`` it is called, its version, and how to ``make`` it again."""

    what: str
    version: int
    make: str

    def require(self, tree: Any, where: str) -> Mapping[str, Any]:
        """The tree, if its ``format_version`` is this one.

        Raises:
            DataError: it is another, or the tree is no object.
        """
        version = tree.get("format_version") if isinstance(tree, Mapping) else None
        if isinstance(tree, Mapping) and version == self.version:
            return tree
        got = "none" if version is None else version
        hint = f"{self.make}, or read the file with the version of msrn that wrote it"
        raise DataError(f"expected {self.what} of format version {self.version}, got {got}", where, hint)

    def read(self, kind: TypeAdapter[Value], tree: Any, where: str, *, below: tuple[str, ...] = ()) -> Value:
        """The value of a tree, or of the part of it ``below`` these keys.

        Raises:
            DataError: values are missing or of the wrong type; all of them are reported.
        """
        try:
            return kind.validate_python(tree)
        except ValidationError as error:
            problems = [
                Problem(f"{'.'.join(map(str, (*below, *detail['loc'])))}: {detail['msg']}", where, self.make)
                for detail in error.errors()
            ]
            raise DataError.of(problems, f"damaged: {self.what}") from None
