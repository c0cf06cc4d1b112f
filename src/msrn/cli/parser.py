"""An argparse parser whose mistakes are our errors, in our words."""

from __future__ import annotations

from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any, NoReturn

from msrn.errors import ConfigError, did_you_mean
from msrn.files import expand_home

__all__ = ["Parser"]

EXPECTED = {int: "a whole number", float: "a number"}


class Parser(ArgumentParser):
    """The parser of one command. It raises ``ConfigError`` where argparse would print and exit.

    Args:
        name: of the command.
        description: for its help.
    """

    def __init__(self, name: str, description: str) -> None:
        self.flags: dict[str, Action] = {}
        super().__init__(
            prog=f"msrn {name}",
            description=description,
            allow_abbrev=False,
            formatter_class=RawDescriptionHelpFormatter,
        )

    def add_argument(self, *names: Any, **options: Any) -> Action:
        """As argparse's; types and choices are checked here, so that their messages are ours."""
        action = super().add_argument(*names, **options)
        self.flags |= dict.fromkeys(action.option_strings, action)
        if action.nargs != 0:
            choices = list(action.choices or ())
            if choices and action.metavar is None:
                action.metavar = "{" + ",".join(choices) + "}"
            action.type = _reader(
                action.option_strings[-1] if action.option_strings else action.dest, action.type, choices
            )
            action.choices = None
        return action

    def takes_value(self, flag: str) -> bool:
        """Whether a known flag is followed by a value."""
        return flag in self.flags and self.flags[flag].nargs != 0

    def error(self, message: str) -> NoReturn:
        """What is left for argparse to find: required arguments that are missing."""
        raise ConfigError(message, "command line", f"see {self.prog} --help")


def _reader(name: str, kind: Any, choices: list[str]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text) if kind else expand_home(text)
        except ValueError:
            raise ConfigError(f"expected {EXPECTED[kind]}, got {text!r}", name) from None
        if choices and value not in choices:
            expected = " or ".join([", ".join(choices[:-1]), choices[-1]])
            raise ConfigError(f"expected {expected}, got {text!r}", name, did_you_mean(text, choices))
        return value

    return read
