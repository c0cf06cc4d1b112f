"""Fingerprints against their written-out definitions, and the search for near pairs against a search of all pairs."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import msrn.audit.hashes as hashes
from msrn.audit.hashes import MAX_DIFFERENCE, Fingerprint, fingerprint, near_pairs, pixel_digest
from msrn.data.split_groups import equal_groups, joined
from msrn.errors import DependencyError


def drawing(seed: int, width: int = 200, height: int = 160) -> Image.Image:
    """Large soft spots of colour, like the low frequencies of a photograph."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def again(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def test_the_hash_is_the_signs_of_the_lowest_frequencies_about_their_median() -> None:
    image = drawing(0)
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    waves = [[math.cos(math.pi * k * (2 * n + 1) / 64) for n in range(32)] for k in range(8)]
    lowest = [
        sum(waves[u][y] * waves[v][x] * grey[y, x] for y in range(32) for x in range(32))
        for u in range(8)
        for v in range(8)
    ]
    # scipy leaves the constant wave unscaled, as here, so only the factor 4 of all is missing.
    expected = "".join("1" if value > np.median(lowest) else "0" for value in lowest)
    assert f"{fingerprint(image).hash:064b}" == expected


def test_the_thumbnail_is_the_mean_of_each_of_64_blocks() -> None:
    image = drawing(1, 80, 40)
    blocks = np.asarray(image, np.float64).reshape(8, 5, 8, 10, 3).mean((1, 3))
    found = np.frombuffer(fingerprint(image).thumbnail, np.uint8).reshape(8, 8, 3)
    assert np.abs(found - blocks).max() <= 1  # rounded twice, once per direction


def test_equal_pixels_have_equal_digests_and_other_sizes_or_pixels_do_not() -> None:
    image = drawing(2)
    copy = Image.open(io.BytesIO(_png(image))).convert("RGB")
    assert pixel_digest(image) == pixel_digest(copy)
    changed = image.copy()
    changed.putpixel((3, 3), (1, 2, 3))
    assert pixel_digest(changed) != pixel_digest(image)
    white = [Image.new("RGB", size, "white") for size in ((6, 4), (4, 6), (12, 2))]
    assert len({pixel_digest(each) for each in white}) == 3


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda image: again(image, 30),
        lambda image: image.resize((image.width // 3, image.height // 3)),
        lambda image: image.resize((image.width * 2, image.height)),
        lambda image: image.crop((1, 1, image.width - 1, image.height - 1)),
        lambda image: image.point(lambda value: min(255, value + 6)),
    ],
    ids=["saved again", "reduced", "stretched", "cropped by a pixel", "brightened"],
)
def test_an_image_is_near_to_its_slight_changes_and_far_from_others(
    change: Callable[[Image.Image], Image.Image],
) -> None:
    originals = [drawing(seed) for seed in range(12)]
    marks = [fingerprint(image) for image in (*originals, *map(change, originals))]
    assert near_pairs(marks).tolist() == [[index, index + 12] for index in range(12)]


def test_the_same_shape_in_another_colour_is_not_a_near_duplicate() -> None:
    shirts = []
    for colour in ("red", "blue"):
        shirt = Image.new("RGB", (120, 120), "white")
        shirt.paste(colour, (30, 20, 90, 110))
        shirts.append(fingerprint(shirt))
    assert (shirts[0].hash ^ shirts[1].hash).bit_count() <= 2  # a comparison of greys would call them near
    assert len(near_pairs(shirts)) == 0


def mark(number: int, level: int = 0) -> Fingerprint:
    return Fingerprint(number, bytes([level]) * 192)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 63), max_size=18), st.integers(0, 20)), max_size=30),
    st.integers(0, 15),
)
def test_near_pairs_are_those_that_a_search_of_all_pairs_finds(
    origins: list[int], copies: list[tuple[int, set[int], int]], bits: int
) -> None:
    marks = [mark(number) for number in origins]
    marks += [
        mark(origins[which % len(origins)] ^ sum(1 << bit for bit in flips), level) for which, flips, level in copies
    ]
    expected = []
    for i, one in enumerate(marks):
        for j in range(i + 1, len(marks)):
            other = marks[j]
            if (
                bin(one.hash ^ other.hash).count("1") <= bits
                and abs(one.thumbnail[0] - other.thumbnail[0]) <= MAX_DIFFERENCE
            ):
                expected.append([i, j])
    assert near_pairs(marks, bits=bits).tolist() == expected


def test_many_equal_hashes_are_compared_in_bounded_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [mark(7, 40 * (index % 3)) for index in range(30)]
    whole = near_pairs(marks).tolist()
    monkeypatch.setattr(hashes, "_PAIRS_AT_A_TIME", 64)
    assert near_pairs(marks).tolist() == whole
    assert len(whole) == 3 * 45


def test_without_images_there_are_no_near_pairs() -> None:
    assert near_pairs([]).shape == near_pairs([mark(1)]).shape == (0, 2)


@given(st.integers(1, 12), st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=3), max_size=10))
def test_groups_that_share_a_member_become_one(count: int, groups: list[list[int]]) -> None:
    groups = [[index % count for index in group] for group in groups]
    sets = [{index} for index in range(count)]
    for group in groups:
        touched = [each for each in sets if each & set(group)]
        sets = [each for each in sets if not each & set(group)] + [set().union(*touched)]
    assert joined(count, groups) == sorted(sorted(each) for each in sets if len(each) > 1)


def test_equal_keys_are_grouped_in_order_and_none_equals_no_key() -> None:
    assert equal_groups(["b", None, "a", "b", None, "a", "b", "c"]) == [[0, 3, 6], [2, 5]]


def test_without_the_package_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    with pytest.raises(DependencyError, match=r"pip install 'msrn\[data\]'"):
        fingerprint(drawing(0))
