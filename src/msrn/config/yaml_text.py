"""YAML as plain values, from a text that anyone may have written."""

from __future__ import annotations

from typing import Any

import yaml

from msrn.errors import reason

__all__ = ["MAX_NODES", "parse_yaml"]

MAX_NODES, MAX_TEXT = 100_000, 2**20
"""Largest number of values of a document, with every alias written out, and of characters."""


def parse_yaml(text: str, *, texts_only: bool = False) -> Any:
    """The plain values of a YAML document; an empty one is None.

    Args:
        text: the document.
        texts_only: read every value as text, also ``no`` and ``1``.

    Raises:
        ValueError: it is no YAML, repeats a key, is nested too deeply, has more than ``MAX_NODES`` values or
            ``MAX_TEXT`` characters, or holds what is no number or date although it looks like one.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"expected at most {MAX_TEXT:,} characters, got {len(text):,}")
    try:
        return yaml.load(text, Loader=_Texts if texts_only else _Plain)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(reason(error)) from error


class _Bounded(yaml.composer.Composer):
    """Counts values, those behind an alias as often as it stands: a few aliases of aliases are a billion values.

    Two equal keys are refused; YAML's own loader keeps the last, which would drop a section in silence.
    """

    def __init__(self) -> None:
        super().__init__()
        self._nodes = 0
        self._behind: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[attr-defined]
        before, alias = self._nodes, isinstance(event, yaml.events.AliasEvent)
        # An alias within the value it names has no size yet, and no end.
        self._nodes += self._behind.get(event.anchor, MAX_NODES) if alias else 1
        if self._nodes > MAX_NODES:
            raise ValueError(f"expected at most {MAX_NODES:,} values, aliases written out")
        node = super().compose_node(parent, index)
        if event.anchor and not alias:
            self._behind[event.anchor] = self._nodes - before
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    message = f"the key {key.value!r} stands twice in one section"
                    raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
                seen.add(key.value)
        return node


class _Plain(_Bounded, yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        yaml.SafeLoader.__init__(self, text)
        self._nodes, self._behind = 0, {}


class _Texts(_Bounded, yaml.BaseLoader):
    def __init__(self, text: str) -> None:
        yaml.BaseLoader.__init__(self, text)
        self._nodes, self._behind = 0, {}
