"""What does a label name mean, as a vector?

A name is looked up whole, else word by word, and the words' vectors are averaged: ``traffic light``,
``traffic_light``, ``TrafficLight`` and ``trafficlight`` are the same. Every step taken is told in the result, because
a vector of the wrong word does not fail, it only makes the model worse. A sentence model reads the name as a phrase.
MSRN (arXiv 2106.11596) uses GloVe 6B, 300 wide; the package used offline carries the 50-wide vectors of that set.
"""

from __future__ import annotations

import logging
import math
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from msrn.errors import LabelError
from msrn.labels.embedding_tables import Floats, open_words
from msrn.labels.sentences import SENTENCE_WIDTHS, SentenceModel, open_sentences
from msrn.labels.space import LabelSpace

__all__ = ["Resolved", "WordVectors", "resolve", "vector_width", "word_vectors"]

log = logging.getLogger(__name__)

How = Literal["exact", "averaged", "split", "singular", "alias", "missing", "text", "pieces", "onehot", "random"]

_RANDOM_WIDTH = 300
_RANDOM_SPREAD = 0.4  # standard deviation of an entry of "random", about that of GloVe 6B at 300
_SHORT_PIECE = {2: 5.0, 3: 1.5}  # "tv" may start a compound, but not at the price of "sofa" + "a"
_COST_A_LETTER = 5.0  # a split dearer than that is made of debris
_LONGEST_PIECE = 30
_CAMEL = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])"  # where CamelCase2 is cut


@dataclass(frozen=True, slots=True)
class Resolved:
    """How one label got its vector.

    Fields: label; words, those averaged, or the one text that a sentence model read; missing, those without a vector;
    how: ``exact`` the name is a word of the table, ``averaged`` over its words, ``split`` a compound was cut in words,
    ``singular`` without its ending, ``alias`` by the text given for it, ``missing`` no word was found and a seeded
    random vector stands in; ``text`` a sentence model read it, ``pieces`` one that does not know all of its words and
    read pieces of them; ``onehot`` and ``random`` have no words; pieces, what a sentence model made of words that it
    does not know, as ``tv·mon·itor``.
    """

    label: str
    words: tuple[str, ...]
    missing: tuple[str, ...]
    how: How
    pieces: tuple[str, ...] = ()

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


def word_vectors(
    labels: LabelSpace,
    source: str | os.PathLike[str],
    *,
    aliases: Mapping[str, str] | None = None,
    template: str = "{}",
    seed: int = 0,
    width: int = _RANDOM_WIDTH,
) -> WordVectors:
    """One vector per label; words that have none are listed in the result and in a logged warning.

    A label of which no word is found gets a random direction, fixed by ``seed`` and its name, as long as the found
    vectors are on average. No vector depends on the other labels' order.

    Args:
        source: ``glove-6b-50d`` (needs the extra ``offline``), ``minilm-l6`` (a sentence model; extra ``sentences``),
            ``onehot`` (E = L), ``random``, or the path of a GloVe text file (``word v1 v2 ...``, any width) or of an
            ``.npz`` with ``vectors (n, E)`` and ``labels (n,)``.
        aliases: text to look up in place of a label, as ``{"tvmonitor": "tv monitor"}``.
        template: what a sentence model reads, ``{}`` being the name, as ``"a photo of a {}"``.
        seed: of random vectors, at least 0.
        width: E of ``random``; the other sources have their own.

    Raises:
        DependencyError: the packages of the source are not installed or damaged.
        LabelError: an unknown source, a broken file, an alias for an unknown label, a template that the source cannot
            read, or not one label found.

    Example:
        >>> word_vectors(LabelSpace(["cat", "dog"]), "onehot").values.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    aliases = dict(aliases or {})
    labels.columns(aliases)
    if template.count("{}") != 1:
        raise LabelError(f"the template must hold {{}} once, for the label's name, got {template!r}", "labels.template")
    if template != "{}" and source not in SENTENCE_WIDTHS:
        raise LabelError(
            f"only sentence models read a template, and {str(source)!r} is none: the words of {template!r} would be "
            "part of every label's vector",
            "labels.template",
            f"leave it out, or take the vectors of {', '.join(SENTENCE_WIDTHS)}",
        )
    if source == "onehot":
        return _wordless(labels, "onehot", np.eye(len(labels), dtype=np.float32))
    if source == "random":
        if width < 1:
            raise LabelError(f"random vectors need a width of at least 1, got {width}")
        rows = [_generator(name, seed).normal(0.0, _RANDOM_SPREAD, width) for name in labels]
        return _wordless(labels, "random", np.asarray(rows, dtype=np.float32))

    if source in SENTENCE_WIDTHS:
        model = open_sentences(str(source))
        origin = model.origin
        resolved = tuple(_read_text(name, model, template, aliases.get(name)) for name in labels)
    else:
        table = open_words(source)
        origin = table.origin
        resolved = tuple(resolve(name, table.rank, alias=aliases.get(name)) for name in labels)
    found = [item for item in resolved if item.words]
    if not found:
        raise LabelError(
            f"none of the {len(labels):,} labels has a word in {origin}",
            where=", ".join(labels.names[:8]) + (", ..." if len(labels) > 8 else ""),
            hint="give aliases (plain words for each label), another source, or ask for 'random' or 'onehot'",
        )
    words = list(dict.fromkeys(word for item in found for word in item.words))
    values = model.encode(words) if source in SENTENCE_WIDTHS else table.take(words)
    vector = dict(zip(words, values, strict=True))
    means = {
        item.label: np.stack([vector[word] for word in item.words]).mean(axis=0, dtype=np.float64) for item in found
    }
    length = math.fsum(float(np.linalg.norm(mean)) for mean in means.values()) / len(means)
    for item in resolved:
        if not item.words:
            direction = _generator(item.label, seed).normal(size=values.shape[1])
            means[item.label] = direction * length / np.linalg.norm(direction)
    result = WordVectors(np.asarray([means[name] for name in labels], dtype=np.float32), origin, resolved)
    _report(result)
    return result


def vector_width(source: str | os.PathLike[str], num_labels: int) -> int:
    """E of a source for that number of labels, without reading vectors. Raises as ``word_vectors`` does."""
    known = {"onehot": num_labels, "random": _RANDOM_WIDTH, **SENTENCE_WIDTHS}
    return known[source] if isinstance(source, str) and source in known else open_words(source).width


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


# ------------------------------------------------------------------------------------------------- names to texts


def _read_text(label: str, model: SentenceModel, template: str, alias: str | None) -> Resolved:
    """What a sentence model reads for a label: ``_`` is a blank, CamelCase is parted; told if words fall to pieces."""
    name = alias if alias is not None else " ".join(re.sub(_CAMEL, " ", label.replace("_", " ")).split())
    pieces = model.pieces(name or label)
    missing = tuple(piece for piece in pieces if piece == model.unknown)
    if len(missing) == len(pieces):
        return Resolved(label, (), (name or label,), "missing")
    broken = missing or any(piece.startswith("##") for piece in pieces)
    how: How = "alias" if alias is not None else "pieces" if broken else "text"
    shown = tuple(" ".join(pieces).replace(" ##", "·").split()) if broken else ()
    return Resolved(label, (template.replace("{}", name),), missing, how, shown)


# ------------------------------------------------------------------------------------------------- names to words


def _parts(token: str, rank: Mapping[str, int]) -> list[str]:
    """``WineGlass2`` as ``Wine Glass 2`` unless the table has it whole."""
    if token in rank or token.lower() in rank:
        return [token]
    return re.sub(_CAMEL, " ", token).split()


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
    if pieced := [f"{item.label} ({' '.join(item.pieces)})" for item in vectors.resolved if item.pieces]:
        log.info("label names read in pieces, where an alias in whole words may mean more: %s", "; ".join(pieced))
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
