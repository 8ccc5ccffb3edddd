"""Random numbers of Triton's language: known answers of Philox 4x32-10, and what Triton makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from ascend_serve.emulated.philox import Words, philox, rand, randint

ONES = 0xFFFFFFFF
KNOWN: list[tuple[Words, tuple[int, int], Words]] = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN, ids=["zeros", "ones", "pi"])
def test_known_answers(counter: Words, key: tuple[int, int], words: Words) -> None:
    assert tuple(int(word) for word in philox(counter, key)) == words


def test_a_number_depends_on_seed_and_offset_alone() -> None:
    block = np.arange(8, dtype=np.int32)
    assert randint(np.int64(7), block)[3] == randint(np.int64(7), np.int32(3))
    assert randint(np.int64(0), np.int32(0)) == KNOWN[0][2][0]
    assert len(np.unique([randint(np.int64(seed), block) for seed in (7, 8, 7 + 2**32)])) == 24


def test_uniform_numbers() -> None:
    numbers = rand(np.int64(3), np.arange(4000, dtype=np.int32))
    assert numbers.dtype == np.float32
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.02
