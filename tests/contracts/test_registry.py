"""Every entry of the registry loads, is described, and has options of its own."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from msrn import registry
from msrn.cli.command import Command
from msrn.errors import ConfigError

PARTS = [(kind, name) for kind in registry.KINDS if kind != "command" for name in registry.names(kind)]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_part_loads_and_its_options_are_frozen_named_and_described(kind: str, name: str) -> None:
    part = registry.load(kind, name)
    assert inspect.getdoc(part)
    options = registry.options_class(kind, name)
    assert issubclass(options, registry.Options)
    assert options().name == name
    assert options.model_config["frozen"]
    assert options.model_config["extra"] == "forbid"
    assert inspect.getdoc(options)
    for field, info in options.model_fields.items():
        assert info.description or field == "name", f"{kind} {name}: option {field} has no description"


@pytest.mark.parametrize("name", registry.names("command"))
def test_a_command_loads_and_is_described(name: str) -> None:
    command = registry.load("command", name)
    assert isinstance(command, Command)
    assert command.summary[0].islower()
    assert command.description.endswith(".")


def test_an_unknown_name_is_answered_with_the_nearest_and_all_known_ones() -> None:
    with pytest.raises(ConfigError, match="there is no head named 'crsa'") as caught:
        registry.load("head", "crsa")
    assert "did you mean 'csra'" in caught.value.hint
    assert all(name in caught.value.hint for name in registry.names("head"))


def test_the_registry_and_the_command_line_load_no_torch() -> None:
    program = (
        "import sys, msrn.registry, msrn.config, msrn.cli\n"
        "for name in msrn.registry.names('command'): msrn.registry.load('command', name)\n"
        "heavy = {'torch', 'torchvision', 'timm', 'PIL', 'numba', 'lightning_fabric', 'matplotlib'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
