"""The command line: one module per command."""

from msrn.cli.main import main

__all__ = ["main"]
