"""Text becomes tokens and text again, by what was learned of the texts it was trained on alone."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentops.data.tokenizer import PADDING, UNKNOWN, Tokenizer
from latentops.errors import DataError
from tests.data.texts import rows

TEXTS = [f"{row['title']} {row['story']}" for row in rows(60)]
LEARNED = Tokenizer.train(TEXTS, vocabulary=60, longest=64)
ALPHABET = sorted(set("".join(TEXTS).lower()) - {" ", "."})


def there_and_back(text: str, tokenizer: Tokenizer = LEARNED) -> str:
    ids, lengths = tokenizer.apply([text])
    (back,) = tokenizer.invert(ids[None], lengths)
    return back


@given(st.lists(st.text(ALPHABET, min_size=1, max_size=6), min_size=1, max_size=6))
def test_words_of_known_characters_come_back(words: list[str]) -> None:
    text = " ".join(words)
    assert there_and_back(text) == text
    assert there_and_back(f"{text}.") == f"{text}."


def test_ids_are_within_the_vocabulary_and_padding_is_never_among_them() -> None:
    ids, lengths = LEARNED.apply([*TEXTS, "Ünseen ☃"])
    assert ids.dtype == np.float32
    assert ids.shape == (lengths.sum(), 1)
    assert ids.min() == UNKNOWN > PADDING
    assert ids.max() < LEARNED.vocabulary == 60


def test_known_characters_are_never_unknown_and_others_are() -> None:
    ids, _ = LEARNED.apply(TEXTS)
    assert bool((ids != UNKNOWN).all())
    assert UNKNOWN in LEARNED.apply(["☃"])[0]


def test_a_frequent_word_is_one_token() -> None:
    assert LEARNED.apply(["the"])[1].tolist() == [1]
    assert LEARNED.apply(["hte"])[1] > 1


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The  TEAM\twon", "the team won"),
        ("the <b>team</b> won", "the team won"),
        ("the&lt;b&gt;team won", "the b team won"),
        ("the #36;team&#39; quot;won", "the team won"),
        ("the\\team won", "the team won"),
        ("ｔｅａｍ", "team"),
    ],
)
def test_case_markup_and_what_escapes_leave_behind_are_gone(text: str, plain: str) -> None:
    assert there_and_back(text) == there_and_back(plain)


@pytest.mark.parametrize("text", ["", "  ", "<br>", "\\"])
def test_a_text_in_which_nothing_is_left_has_one_token(text: str) -> None:
    ids, lengths = LEARNED.apply([text])
    assert ids.tolist() == [[UNKNOWN]]
    assert lengths.tolist() == [1]


def test_no_more_than_the_longest_are_kept() -> None:
    short = Tokenizer(LEARNED.saved, longest=3)
    ids, lengths = short.apply(TEXTS[:4])
    assert lengths.tolist() == [3] * 4
    whole, all_lengths = LEARNED.apply(TEXTS[:1])
    assert all_lengths[0] > 3
    assert np.array_equal(ids[:3], whole[:3])


def test_padding_is_left_out_of_the_text_and_so_is_what_is_beyond_the_length() -> None:
    ids, lengths = LEARNED.apply(["the the"])
    padded = np.concatenate([ids, np.zeros((3, 1), np.float32)])[None]
    assert LEARNED.invert(padded) == ["the the"]
    assert LEARNED.invert(padded, lengths - 1) == ["the"]


def test_order_plays_no_part() -> None:
    assert Tokenizer.train(TEXTS[::-1], 60, 64) == LEARNED


def test_another_process_learns_the_same_bytes() -> None:
    code = (
        "import hashlib; from tests.data.test_tokenizer import LEARNED;"
        "print(hashlib.sha256(LEARNED.saved.encode()).hexdigest())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout.strip() == hashlib.sha256(LEARNED.saved.encode()).hexdigest()


def test_it_is_json_and_nothing_else() -> None:
    assert isinstance(json.loads(LEARNED.saved), dict)
    again = Tokenizer(LEARNED.saved, LEARNED.longest)
    assert np.array_equal(again.apply(TEXTS)[0], LEARNED.apply(TEXTS)[0])


def test_a_vocabulary_that_cannot_hold_the_characters_is_refused() -> None:
    with pytest.raises(DataError, match=r"vocabulary: 5 is less than the \d+ .* raise it"):
        Tokenizer.train(TEXTS, 5, 64)
