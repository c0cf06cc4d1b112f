"""YAML that anyone may have written: plain values, or a ValueError."""

from __future__ import annotations

import pytest

from msrn.config import parse_yaml


def test_aliases_are_read_and_texts_stay_texts_on_request() -> None:
    assert parse_yaml("a: &x [1, no]\nb: *x\nc:\n  <<: {d: 2}\n") == {"a": [1, False], "b": [1, False], "c": {"d": 2}}
    assert parse_yaml("no: 1", texts_only=True) == {"no": "1"}
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)), "written out"),
        ("a: &a [*a]", "written out"),
        ("[" * 20_000, "deep"),
        ("a: 1\na: 2", "twice"),
        ("a: 2001-99-99", "month"),
        ("a: " + "9" * 5000, "digits"),
        ("!!map x", "mapping"),
        ("!!python/object/apply:os.getcwd []", "python"),
        ("a" * (2**20 + 1), "characters"),
    ],
)
def test_hostile_yaml_is_a_value_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)
