"""Label embeddings: one vector for the meaning of each label name.

A name is looked up whole, else word by word, and the words' vectors are averaged: ``traffic light``,
``traffic_light``, ``TrafficLight`` and ``trafficlight`` give the same embedding. The result records every step, because
the vector of a wrong word raises no error and only makes the model worse. A sentence model embeds the name as a phrase.
MSRN (arXiv 2106.11596) uses GloVe 6B, 300 wide; the package used offline contains the 50-wide vectors of that set.
"""

from __future__ import annotations

import logging
import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from msrn.errors import LabelError, did_you_mean
from msrn.labels.embedding_tables import EmbeddingTable, Floats, open_table
from msrn.labels.sentences import SENTENCE_WIDTHS, SentenceModel, open_sentence_model
from msrn.labels.space import LabelSpace

__all__ = ["LabelEmbeddings", "Resolved", "embedding_width", "label_embeddings", "resolve"]

log = logging.getLogger(__name__)

How = Literal["exact", "averaged", "split", "singular", "alias", "missing", "text", "pieces", "onehot", "random"]

_RANDOM_WIDTH = 300
_RANDOM_SPREAD = 0.4  # standard deviation of an entry of "random", about that of GloVe 6B at 300
_SHORT_PIECE = {2: 5.0, 3: 1.5}  # "tv" may start a compound, but not at the price of "sofa" + "a"
_COST_A_LETTER = 5.0  # a split that costs more consists of fragments
_LONGEST_PIECE = 30
_CAMEL = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])"  # word boundaries in CamelCase2
_MAX_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Resolved:
    """How one label got its embedding.

    Fields: label; words, those averaged, or the one text that a sentence model embedded; missing, those without a
    vector; how, one of:

    - ``exact``: the name is in the table
    - ``averaged``: mean over its words
    - ``split``: a compound was split into words
    - ``singular``: found without its plural ending
    - ``alias``: found by the text given as its alias
    - ``missing``: no word was found, and a seeded random vector is used
    - ``text``: embedded by a sentence model
    - ``pieces``: the same, where the model's vocabulary lacks a word and its tokens are fragments
    - ``onehot``, ``random``: sources without words

    pieces, the tokens of words that a sentence model's vocabulary lacks, as ``tv·mon·itor``.
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
class LabelEmbeddings:
    """Embeddings ``values (L, E)`` float32 in the order of the labels, their source, and how each was found."""

    values: Floats = field(repr=False)
    source: str
    resolved: tuple[Resolved, ...]

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """Words without a vector, by label; labels that lack none are left out."""
        return {item.label: item.missing for item in self.resolved if item.missing}


def label_embeddings(
    labels: LabelSpace,
    source: str | os.PathLike[str],
    *,
    aliases: Mapping[str, str] | None = None,
    template: str = "{}",
    seed: int = 0,
    width: int = _RANDOM_WIDTH,
) -> LabelEmbeddings:
    """One embedding per label. Words without a vector are listed in the result and in a logged warning.

    A label none of whose words is found gets a random direction, determined by ``seed`` and its name, with the mean
    length of the embeddings that were found. No embedding depends on the order of the labels.

    Args:
        source: ``glove-6b-50d`` (extra ``offline``); ``glove-6b-300d-benchmarks`` (exact names of VOC, COCO, NUS-WIDE
            and Apparel only); ``minilm-l6`` (a sentence model; extra ``sentences``); ``onehot`` (E = L); ``random``; or
            the path of a GloVe text file (``word v1 v2 ...``, any width) or of an ``.npz`` file with ``vectors (n, E)``
            and ``labels (n,)``.
        aliases: text to look up in place of a label, as ``{"tvmonitor": "tv monitor"}``.
        template: text for a sentence model, with ``{}`` for the name, as ``"a photo of a {}"``.
        seed: seed of random vectors, at least 0.
        width: E of ``random``; the other sources have their own.

    Raises:
        DependencyError: the packages of the source are missing or damaged.
        LabelError: the source is unknown, a file is broken, an alias is for an unknown label, the source cannot use
            the template, no label was found, or ``glove-6b-300d-benchmarks`` lacks a label.

    Example:
        >>> label_embeddings(LabelSpace(["cat", "dog"]), "onehot").values.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    aliases = dict(aliases or {})
    labels.columns(aliases)
    _check_template(template, source)
    if source == "onehot":
        return _wordless(labels, "onehot", np.eye(len(labels), dtype=np.float32))
    if source == "random":
        if width < 1:
            raise LabelError(f"random embeddings need a width of at least 1, got {width}")
        rows = [_generator(name, seed).normal(0.0, _RANDOM_SPREAD, width) for name in labels]
        return _wordless(labels, "random", np.asarray(rows, dtype=np.float32))

    if source in SENTENCE_WIDTHS:
        model = open_sentence_model(str(source))
        origin, encode = model.origin, model.encode
        resolved = tuple(_read_text(name, model, template, aliases.get(name)) for name in labels)
    else:
        table = open_table(source)
        origin, encode = table.origin, table.take
        if table.whole_names:
            resolved = _whole_names(labels, table, aliases)
        else:
            resolved = tuple(resolve(name, table.rank, alias=aliases.get(name)) for name in labels)
    found = [item for item in resolved if item.words]
    if not found:
        raise LabelError(
            f"none of the {len(labels):,} labels has a word in {origin}",
            where=_listed(labels.names),
            hint="give aliases (plain words for each label), or choose another source, such as 'random' or 'onehot'",
        )
    words = list(dict.fromkeys(word for item in found for word in item.words))
    vector = dict(zip(words, encode(words), strict=True))
    means = {
        item.label: np.stack([vector[word] for word in item.words]).mean(axis=0, dtype=np.float64) for item in found
    }
    length = math.fsum(float(np.linalg.norm(mean)) for mean in means.values()) / len(means)
    for item in resolved:
        if not item.words:
            direction = _generator(item.label, seed).normal(size=len(vector[words[0]]))
            means[item.label] = direction * length / np.linalg.norm(direction)
    result = LabelEmbeddings(np.asarray([means[name] for name in labels], dtype=np.float32), origin, resolved)
    _log_steps(result)
    return result


def embedding_width(source: str | os.PathLike[str], num_labels: int) -> int:
    """E of a source for that number of labels, without reading vectors. Raises as ``label_embeddings`` does."""
    known = {"onehot": num_labels, "random": _RANDOM_WIDTH, **SENTENCE_WIDTHS}
    return known[source] if isinstance(source, str) and source in known else open_table(source).width


def resolve(label: str, rank: Mapping[str, int], *, alias: str | None = None) -> Resolved:
    """The words of a table that a label name consists of; ``rank`` maps the table's words to their place.

    Tried in turn: the whole name, as given, then in lower case; its words, separated by spaces, ``_``, ``-`` and
    similar characters; for a word that is not in the table: the parts of CamelCase, the singular, and the most likely
    split into two or more words of the table.
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


def _check_template(template: str, source: str | os.PathLike[str]) -> None:
    if template.count("{}") != 1:
        raise LabelError(f"the template must hold {{}} once, for the label's name, got {template!r}", "labels.template")
    if template != "{}" and source not in SENTENCE_WIDTHS:
        raise LabelError(
            f"only sentence models read a template, and {str(source)!r} is not one: the words of {template!r} would be "
            "part of every label's embedding",
            "labels.template",
            f"remove the template, or set labels.embeddings to {', '.join(SENTENCE_WIDTHS)}",
        )


# ------------------------------------------------------------------------------------------------ names to entries


def _whole_names(labels: LabelSpace, table: EmbeddingTable, aliases: Mapping[str, str]) -> tuple[Resolved, ...]:
    """Each name, or its alias, exactly as it stands in the table."""
    texts = {name: aliases.get(name, name) for name in labels}
    missing = list(dict.fromkeys(text for text in texts.values() if text not in table.rank))
    if missing:
        near = did_you_mean(missing[0], table.rank) if len(missing) == 1 else ""
        raise LabelError(
            f"{table.origin} has no embedding for {len(missing):,} of the {len(labels):,} labels: {_listed(missing)}",
            "labels.embeddings",
            f"{near + ' ' if near else ''}It contains only the exact label names of VOC, COCO, NUS-WIDE and Apparel; "
            "for other names set labels.embeddings to glove-6b-50d or to a file, or give aliases",
        )
    return tuple(Resolved(name, (text,), (), "alias" if name in aliases else "exact") for name, text in texts.items())


# -------------------------------------------------------------------------------------------------- names to texts


def _read_text(label: str, model: SentenceModel, template: str, alias: str | None) -> Resolved:
    """The text that a sentence model embeds for a label: ``_`` becomes a space, CamelCase is split."""
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
    """One word: as it is, without its ending, or split; no pieces when none of these is in the table."""
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
    """The most likely split into words of the table: minimum sum of log ranks (Zipf) with a penalty on short pieces."""
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


# --------------------------------------------------------------------------------------------------------- helpers


def _log_steps(found: LabelEmbeddings) -> None:
    guessed = [str(item) for item in found.resolved if item.how in ("split", "singular")]
    if guessed:
        log.info("label names split into words: %s", "; ".join(guessed))
    if pieced := [f"{item.label} ({' '.join(item.pieces)})" for item in found.resolved if item.pieces]:
        log.info("label names with words unknown to the model (aliases in known words may help): %s", "; ".join(pieced))
    if found.missing:
        absent = "; ".join(
            f"{item.label} ({', '.join(item.missing)}{': random vector' if item.how == 'missing' else ''})"
            for item in found.resolved
            if item.missing
        )
        log.warning("%s lacks words of %d labels: %s", found.source, len(found.missing), absent)


def _wordless(labels: LabelSpace, source: Literal["onehot", "random"], values: Floats) -> LabelEmbeddings:
    return LabelEmbeddings(values, source, tuple(Resolved(name, (), (), source) for name in labels))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_SHOWN]) + (", ..." if len(names) > _MAX_SHOWN else "")


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode("utf-8"))])
