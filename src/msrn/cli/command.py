"""What a command is: its texts, its arguments, the settings it reads, and the function that runs it."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Command", "speaks"]


def speaks() -> bool:
    """Whether this process prints: of the processes of a run, the first alone does."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0) == 0


def _no_arguments(_parser: ArgumentParser) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Command:
    """One command of ``msrn``; a module of this package holds one as ``COMMAND``, and the registry names it.

    Args:
        summary: one line for ``msrn --help``.
        description: for the command's own ``--help``.
        run: takes the parsed arguments, returns the exit code: 0, or 1 if some images could not be read.
        arguments: adds positional arguments and flags to a parser. Defaults stand there and nowhere else.
        settings: the sections and fields of the settings that the command reads, such as ``data`` or ``run.seed``;
            empty: it takes no settings. A flag for another setting is an error.
    """

    summary: str
    description: str
    run: Callable[[Namespace], int]
    arguments: Callable[[ArgumentParser], None] = _no_arguments
    settings: tuple[str, ...] = ()
