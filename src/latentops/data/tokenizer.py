"""From text to the ids of tokens, and back: pieces of words, learned from training rows alone.

The library is imported where text is at hand, so that models of other data don't pay for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from latentops.errors import DataError

if TYPE_CHECKING:
    import tokenizers

PADDING, UNKNOWN = 0, 1
"""Ids of what stands in no text: what sequences are filled up with, and what the vocabulary hasn't got."""

SPECIAL = {"[PAD]": PADDING, "[UNK]": UNKNOWN}

LEFT_OVER = r"<[^<>]*>|&?#\d+;|&?\b(?:lt|gt|amp|quot|nbsp);|\\"
"""What HTML and escapes leave behind in a text."""


@dataclass(frozen=True)
class Tokenizer:
    """Byte pairs, or rather pairs of characters, merged from the most frequent on.

    (Sennrich et al. 2016, "Neural machine translation of rare words with subword units", §3.2.) Text is
    lower-cased, in Unicode's compatibility form, and free of what markup leaves behind. `saved` is all there
    is to it, as JSON of the library `tokenizers`; `longest` is how many tokens are kept of a text.
    """

    saved: str
    longest: int

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int, longest: int) -> Self:
        """From the training rows' texts: at most `vocabulary` tokens, padding and the unknown among them.

        The same texts, in whatever order, give the same tokenizer. Raises `DataError` where they have more
        characters than that.
        """
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        made = Tokenizer(models.BPE(unk_token="[UNK]"))  # noqa: S106
        made.normalizer = normalizers.Sequence(
            [
                normalizers.NFKC(),
                normalizers.Lowercase(),
                normalizers.Replace(Regex(LEFT_OVER), " "),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Strip(),
            ]
        )
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
        )
        made.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
        )
        made.train_from_iterator(sorted(texts), trainer)
        if made.get_vocab_size() > vocabulary:
            raise DataError(
                f"scaling.vocabulary: {vocabulary} is less than the {made.get_vocab_size()} tokens that the "
                "training rows' characters alone take; raise it"
            )
        return cls(made.to_str(), longest)

    @cached_property
    def _library(self) -> "tokenizers.Tokenizer":
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.saved)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are, padding and the unknown among them."""
        return self._library.get_vocab_size()

    def apply(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ids of all texts end to end `[total, 1]`, and how many each has, 1 to `longest`.

        A text in which nothing is left has one token, the unknown.
        """
        encoded = self._library.encode_batch(list(texts), add_special_tokens=False)
        rows = [each.ids[: self.longest] or [UNKNOWN] for each in encoded]
        ids = [np.empty(0, np.float32), *(np.array(row, dtype=np.float32) for row in rows)]
        return np.concatenate(ids)[:, None], np.array([len(row) for row in rows], dtype=np.int64)

    def invert(self, ids: NDArray[np.floating], lengths: NDArray[np.integer] | None = None) -> list[str]:
        """The texts of rows of ids `[n, steps, 1]`, of each the first of `lengths`; padding is left out."""
        every = np.asarray(ids)[..., 0].astype(np.int64)
        ends = np.full(len(every), every.shape[1]) if lengths is None else np.asarray(lengths)
        rows = [
            [token for token in row[:end].tolist() if token != PADDING]
            for row, end in zip(every, ends, strict=True)
        ]
        return self._library.decode_batch(rows, skip_special_tokens=False)
