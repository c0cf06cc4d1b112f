"""The program: find the command, parse, run, and turn errors into messages and exit codes.

Exit codes: 0 done; 1 done, but some images could not be read; 2 a mistake that the message explains; 70 an error of
msrn itself; 130 interrupted. Torch is imported by commands that compute, and by help that lists the options of a head.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Sequence

from msrn import __version__, registry
from msrn.cli.arguments import parse
from msrn.cli.command import Command, speaks
from msrn.errors import ConfigError, MsrnError, Problem, did_you_mean, reason, write_hint

__all__ = ["main"]

USER_MISTAKE, INTERNAL_ERROR, INTERRUPTED = 2, 70, 130
NOISY = ("timm", "matplotlib", "PIL", "numba", "lightning_fabric", "httpx", "torch")
"""Libraries whose own messages are shown from warnings on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(_overview(), end="")
        return 0
    if arguments[:1] == ["--version"]:
        print(f"msrn {__version__}")
        return 0
    if not arguments:
        print(_overview(), end="", file=sys.stderr)
        return USER_MISTAKE
    debug = "--debug" in arguments
    level = logging.DEBUG if debug else logging.INFO if speaks() else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        code = _run(arguments)
        sys.stdout.flush()  # a full disk shows itself here, not when the process ends
        return code
    except MsrnError as error:
        _let_the_first_speak()
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a folder that cannot be written, a full disk
        if debug:
            traceback.print_exc()
        hint = write_hint(error, "run the command again")
        print(f"error: {Problem(reason(error), str(error.filename or arguments[0]), hint)}", file=sys.stderr)
        return USER_MISTAKE
    except Exception:
        _let_the_first_speak()
        traceback.print_exc()
        print("error: this is a fault of msrn; please report it with the lines above", file=sys.stderr)
        return INTERNAL_ERROR


def _let_the_first_speak() -> None:
    """Of several processes with the same error the first says it; it has ended the others before they speak."""
    if not speaks():
        time.sleep(1)


def _run(arguments: Sequence[str]) -> int:
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in registry.COMMANDS:
            command: Command = registry.load("command", name)
            args = parse(name, command, arguments[words:])
            return 0 if args is None else command.run(args)
    first = arguments[0]
    group = [name for name in registry.COMMANDS if name.startswith(f"{first} ")]
    if group and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        text = f"usage: msrn {first} COMMAND [arguments]   msrn {first} COMMAND --help\n\n{_table(group)}"
        print(text, end="", file=sys.stderr if len(arguments) == 1 else sys.stdout)
        return USER_MISTAKE if len(arguments) == 1 else 0
    given, known = (" ".join(arguments[:2]), group) if group else (first, list(registry.COMMANDS))
    hint = did_you_mean(given, known) or "see msrn --help"
    raise ConfigError(f"there is no command {given!r}", "command line", hint)


def _overview() -> str:
    return (
        "usage: msrn COMMAND [arguments]   msrn COMMAND --help   msrn --version\n\n"
        "Train, evaluate and use multi-label image classifiers.\n\n" + _table(list(registry.COMMANDS))
    )


def _table(names: Sequence[str]) -> str:
    width = max(map(len, names))
    return "commands:\n" + "".join(f"  {name:{width}}  {registry.load('command', name).summary}\n" for name in names)
