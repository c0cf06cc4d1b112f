"""The table of what is fuzzed: kind of file, how a valid one is made, how it is damaged, and what reads it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from mutate import mutated

__all__ = ["Kind", "all_kinds", "damaged"]

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file: ``case`` gives the files of a case, ``read`` reads them from their folder and checks the result.

    ``share`` is the part of all cases that the kind gets, 1 for most; ``fixed`` the number of its cases where they are
    not drawn but written by hand.
    """

    name: str
    case: Callable[[Random, int], dict[str, bytes]]
    read: Callable[[Path], object]
    share: float = 1.0
    fixed: int = 0


def damaged(
    name: str,
    build: Callable[[], Files],
    read: Callable[[Path], object],
    *,
    forms: Mapping[str, str],
    share: float = 1.0,
    seal: Callable[[dict[str, bytes]], dict[str, bytes]] = dict,
) -> Kind:
    """A kind whose cases are valid files with damage.

    Args:
        name: of the kind.
        build: makes the valid files, once.
        read: entry point, and checks of its result.
        forms: the files that are damaged, and how (``mutate.FORMS``).
        share: as in ``Kind``.
        seal: makes digests right again.
    """
    made: dict[str, bytes] = {}

    def case(rng: Random, number: int) -> dict[str, bytes]:
        if not made:
            made.update(build())
        files = dict(made)
        if number == 0:
            return files  # the valid files themselves
        for target in rng.sample(list(forms), 1 + (len(forms) > 1 and rng.random() < 0.1)):
            files[target] = mutated(files[target], forms[target], rng)
        return seal(files)

    return Kind(name, case, read, share)


def all_kinds() -> list[Kind]:
    """Every kind, from the modules that each hold some."""
    modules = ("of_images", "of_data_sets", "of_tables", "of_labels", "of_models", "bombs")
    return [kind for module in modules for kind in importlib.import_module(module).KINDS]
