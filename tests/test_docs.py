"""The pages are right: links, commands, settings, Python and paths in README, CONTRIBUTING and docs."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from msrn import registry
from msrn.cli.arguments import SECTIONS, command_parser, data_settings, parse, resolve
from msrn.config import PARTS, setting_fields
from msrn.errors import MsrnError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def fences(path: Path) -> list[tuple[str, str]]:
    """(language, text) of a page's fenced blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def spans(path: Path) -> list[str]:
    """Code within the text."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(path))]


def commands(path: Path) -> list[list[str]]:
    """Arguments of every ``msrn`` command line of a page: whole lines of shell blocks, and code within the text."""
    shell = "\n".join(text for language, text in fences(path) if language in {"sh", "bash", "shell", "console"})
    found = []
    for line in [*shell.replace("\\\n", " ").splitlines(), *spans(path)]:
        command = re.match(r"(?:\$ )?(?:msrn|(?:torchrun|python) .*?-m msrn)(?= |$)(.*)", line)
        if command:
            words = shlex.split(re.sub(r"\{\{\w+\}\}", "1", command[1]), comments=True)
            found.append(words[: words.index(">")] if ">" in words else words)
    return found


def parsed(words: list[str]) -> Namespace | None:
    """The arguments of a command line, with its settings checked where it does not continue from a run or bundle."""
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in registry.COMMANDS:
            args = parse(name, registry.load("command", name), words[count:])
            if args and name in {"train", "summary", "labels"} and not (args.config or getattr(args, "resume", None)):
                resolve(args)
            elif args and name.startswith("data ") and not args.config:
                data_settings(args)
            return args
    raise AssertionError(f"there is no command {words[0]!r}")


@functools.cache
def settings_names() -> frozenset[str]:
    """Every setting, as ``data.root``, with the options of every part, as ``model.head.residual``."""
    names = {path for path, _, _ in setting_fields({})}
    for section, kind in PARTS.items():
        for part in registry.names(kind):
            names |= {f"{section}.{option}" for option in registry.options_class(kind, part).model_fields}
    return frozenset(names)


@functools.cache
def flags() -> frozenset[str]:
    """Every option of every command."""
    own = {
        flag
        for name in registry.names("command")
        for flag in command_parser(name, registry.load("command", name)).flags
    }
    return frozenset({f"--{name}" for name in settings_names()} | own | {"--version"})


@page
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    local = [target.split("#")[0] for target in targets if not re.match(r"\w+:|#", target)]
    missing = [target for target in local if not (path.parent / target).exists()]
    assert not missing
    if path.is_relative_to(ROOT / "docs"):  # the built site holds nothing else
        assert all((path.parent / target).resolve().is_relative_to(ROOT / "docs") for target in local)


@page
def test_every_command_line_is_accepted_by_the_parser(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("aliases.yaml").write_text("tvmonitor: tv monitor\n")  # read with the settings
    for words in commands(path):
        mentioned = " ".join(words)
        if mentioned in registry.COMMANDS or mentioned in {"", "data", "--help", "data --help"}:
            continue  # named in a sentence, without its arguments
        try:
            parsed(words)
        except (MsrnError, AssertionError) as error:
            pytest.fail(f"msrn {mentioned}: {error}")


@page
def test_every_option_and_setting_in_the_text_exists(path: Path) -> None:
    if path.name == "CHANGELOG.md":
        return  # it names former settings too
    for span in spans(path):
        named = re.findall(r"(?<!\S)--[\w.]+", span) if not re.match(r"(python|torchrun|pip) ", span) else []
        assert set(named) <= flags(), span
        if re.fullmatch(rf"({'|'.join(SECTIONS)})(\.\w+)+", span) and not re.search(
            r"\.(csv|tsv|txt|jsonl?|ya?ml|npz|py|safetensors)$", span
        ):
            assert span in settings_names() | PARTS.keys(), span


@page
def test_every_make_target_and_every_path_of_the_repository_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines = [line for _, text in fences(path) for line in text.splitlines()] + spans(path)
    assert {word for line in lines for word in re.findall(r"^make ([a-z]+)\b", line)} <= targets
    named = {word for line in lines for word in re.findall(r"(?<!\S)((?:src|tests|examples)/[\w./-]*)", line)}
    assert not [name for name in named if not (ROOT / name).exists()]


@page
def test_every_python_block_compiles_and_imports_what_is_there(path: Path) -> None:
    for language, text in fences(path):
        if language == "python":
            compile(text, str(path), "exec")
            check_imports(text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_compiles_and_is_named_in_the_docs(path: Path) -> None:
    compile(path.read_text(encoding="utf-8"), str(path), "exec")
    check_imports(path.read_text(encoding="utf-8"))
    assert any(f"examples/{path.name}" in each.read_text(encoding="utf-8") for each in PAGES)


def test_the_contents_of_the_site_list_every_page() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def leaves(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [leaf for part in (entry.values() if isinstance(entry, dict) else entry) for leaf in leaves(part)]

    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(leaves(config["nav"])) == sorted(there)


@page
def test_no_placeholder_is_left(path: Path) -> None:
    assert sorted(set(re.findall(r"\{\{\w*\}\}", path.read_text(encoding="utf-8")))) == []


def check_imports(text: str) -> None:
    """Every name that is imported from the package is defined there; read from the source, nothing is loaded."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "msrn":
            place = ROOT / "src" / Path(*str(node.module).split("."))
            source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            names = defined(source)
            if place.is_dir():
                names |= {each.stem for each in place.iterdir() if each.suffix == ".py" or each.is_dir()}
            assert {alias.name for alias in node.names} <= names, (node.module, names)


def defined(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                names.update([target.id] if isinstance(target, ast.Name) else [])
                if isinstance(target, ast.Name) and target.id == "__all__" and node.value is not None:
                    names.update(ast.literal_eval(node.value))
    return names
