"""Do the pages say what is true? Links, commands, settings, Python and paths in README, CONTRIBUTING and docs."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from msrn.cli import COMMANDS, SECTIONS, _parser, _settings
from msrn.config import preset_names
from msrn.data_cli import DATA_COMMANDS

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


@functools.cache
def settings_names() -> frozenset[str]:
    """Every setting, as ``data.root`` and, of a section within a section, ``data.reader.order``."""

    def within(prefix: str, section: type[BaseModel]) -> set[str]:
        names = set()
        for field, info in section.model_fields.items():
            names.add(f"{prefix}.{field}")
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                names |= within(f"{prefix}.{field}", info.annotation)
        return names

    return frozenset(name for section in SECTIONS for name in within(section, SECTIONS[section]))


@functools.cache
def flags() -> frozenset[str]:
    """Every option of every command."""
    shared = {f"--{name}" for name in settings_names()}
    files = [ROOT / "src/msrn" / name for name in ("cli.py", "data_cli.py")]
    own = [flag for file in files for flag in re.findall(r'"(--\w+)"', file.read_text(encoding="utf-8"))]
    return frozenset(shared | set(own) | {"--help"})


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
    parser = _parser()
    for words in commands(path):
        if words[:1] == ["data"] and len(words) == 2:  # as below
            assert words[1] in DATA_COMMANDS, words
            continue
        if len(words) < 2:  # a command that is only mentioned
            assert set(words) <= COMMANDS.keys(), words
            continue
        try:
            parsed = parser.parse_args(words, defaults=False)
            given = parsed[parsed.subcommand]
            assert given.get("preset", "custom") in preset_names(), words
            if parsed.subcommand in {"train", "labels"} and not given.get("resume") and not given.get("config"):
                _settings(given)
        except (Exception, SystemExit) as error:
            pytest.fail(f"{' '.join(words)}: {error}")


@page
def test_every_option_and_setting_in_the_text_exists(path: Path) -> None:
    for span in spans(path):
        said = re.findall(r"(?<!\S)--[\w.]+", span) if not re.match(r"(python|torchrun|pip) ", span) else []
        assert set(said) <= flags(), span
        if re.fullmatch(rf"({'|'.join(SECTIONS)})(\.\w+)+", span) and not re.search(
            r"\.(csv|tsv|txt|jsonl|npz|safetensors)$", span
        ):
            assert span in settings_names(), span


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
def test_every_example_compiles_and_is_told_of_in_the_docs(path: Path) -> None:
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


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_every_page_of_the_docs_ends_with_what_to_do_next(path: Path) -> None:
    assert path.read_text(encoding="utf-8").strip().split("\n\n")[-1].startswith("Next: ")


@page
def test_no_place_is_left_unfilled(path: Path) -> None:
    assert sorted(set(re.findall(r"\{\{\w*\}\}", path.read_text(encoding="utf-8")))) == []


def check_imports(text: str) -> None:
    """Every name that is imported from the package is defined there; read from the source, nothing is loaded."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "msrn":
            place = ROOT / "src" / Path(*str(node.module).split("."))
            source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            names = defined(source)
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
