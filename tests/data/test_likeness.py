import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentops.data.likeness import alike, perceptual_hashes


def picture(seed: int, size: int = 48) -> np.ndarray:
    """Random, with most of it in low frequencies, as photographs have."""
    random = np.random.default_rng(seed)
    rough = random.normal(size=(size, size)).cumsum(0).cumsum(1)
    rough -= np.outer(rough.mean(1), np.ones(size))
    return ((rough - rough.min()) / np.ptp(rough))[None]


def bits(one: np.uint64, other: np.uint64) -> int:
    return int(one ^ other).bit_count()


@pytest.mark.parametrize(
    "change",
    [
        lambda image, random: image + random.normal(0, 0.01, image.shape),
        lambda image, _: 0.8 * image + 0.15,
        lambda image, _: image.reshape(1, 24, 2, 24, 2).mean((2, 4)),
    ],
    ids=["noise", "exposure", "size"],
)
def test_a_picture_hardly_changed_has_hardly_another_hash(change: object) -> None:
    random = np.random.default_rng(0)
    for seed in range(10):
        image = picture(seed)
        (before,), (after,) = (
            perceptual_hashes(each[None])
            for each in (image, change(image, random))  # type: ignore[operator]
        )
        assert bits(before, after) <= 6


def test_pictures_that_have_nothing_to_do_with_each_other_differ_in_half_their_bits() -> None:
    noise = np.random.default_rng(0).normal(size=(60, 1, 32, 32))
    hashes = perceptual_hashes(noise)
    distances = [bits(hashes[a], hashes[b]) for a in range(60) for b in range(a)]
    assert abs(np.mean(distances) - 32) < 1


@given(
    hashes=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=25),
    flips=st.lists(st.tuples(st.integers(0, 24), st.sets(st.integers(0, 63), max_size=7)), max_size=25),
    distance=st.integers(0, 6),
)
def test_exactly_the_close_ones_are_joined(
    hashes: list[int], flips: list[tuple[int, set[int]]], distance: int
) -> None:
    for at, places in flips:
        hashes.append(hashes[at % len(hashes)] ^ sum(1 << place for place in places))
    found = set(map(frozenset, alike(np.array(hashes, dtype=np.uint64), distance)))
    for pair in found:
        one, *other = pair
        assert (hashes[one] ^ hashes[other[0] if other else one]).bit_count() <= distance
    # Of equal hashes only the first is compared with others: joined they are all the same.
    firsts = [at for at, each in enumerate(hashes) if hashes.index(each) == at]
    for a in firsts:
        for b in firsts:
            if a < b and (hashes[a] ^ hashes[b]).bit_count() <= distance:
                assert frozenset((a, b)) in found
    for at, each in enumerate(hashes):
        if hashes.index(each) != at:
            assert frozenset((at, hashes.index(each))) in found
