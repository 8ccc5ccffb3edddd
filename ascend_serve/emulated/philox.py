"""Random numbers of Triton's language: the counter-based Philox 4x32 with ten rounds (Salmon and others, 2011)."""

from __future__ import annotations

from typing import Any

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
_ROUNDS = 10
_WORD_BYTES = 4
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)

_TO_UNIT = np.float32(4.6566127342e-10)
"""Triton's factor, just below 2**-31, so that the largest number of 31 bits stays below one in float32."""

Words = tuple[Any, Any, Any, Any]


def philox(counter: Words, key: tuple[Any, Any]) -> Words:
    """Four random words of 32 bits for a counter of four and a key of two; blocks of either, too."""
    words = [np.asarray(word, dtype=np.uint32) for word in counter]
    keys = [np.asarray(word, dtype=np.uint32) for word in key]
    with np.errstate(over="ignore"):
        for _ in range(_ROUNDS):
            first, second = (
                factor * word.astype(np.uint64) for factor, word in zip(_MULTIPLIERS, words[::2], strict=True)
            )
            words = [
                (second >> _HALF).astype(np.uint32) ^ words[1] ^ keys[0],
                (second & _LOW).astype(np.uint32),
                (first >> _HALF).astype(np.uint32) ^ words[3] ^ keys[1],
                (first & _LOW).astype(np.uint32),
            ]
            keys = [word + step for word, step in zip(keys, _KEY_STEPS, strict=True)]
    return words[0], words[1], words[2], words[3]


def randint4x(seed: Any, offset: Any) -> Words:
    """``tl.randint4x``: four words for each offset, as unsigned numbers.

    Args:
        seed: Up to 64 bits.
        offset: A block of up to 64 bits each; the second half counts where there is one.
    """
    wide = np.asarray(seed).astype(np.uint64)
    places = np.asarray(offset)
    # A negative offset of 32 bits is not widened.
    unsigned = places.astype(np.uint64 if places.itemsize > _WORD_BYTES else np.uint32).astype(np.uint64)
    zeros = np.zeros_like(unsigned)
    return philox((unsigned & _LOW, unsigned >> _HALF, zeros, zeros), (wide & _LOW, wide >> _HALF))


def randint(seed: Any, offset: Any) -> Any:
    """``tl.randint``: the first of those words."""
    return randint4x(seed, offset)[0]


def rand(seed: Any, offset: Any) -> Any:
    """``tl.rand``: a number in [0, 1) in float32 for each offset."""
    word = randint(seed, offset).view(np.int32)
    return np.where(word < 0, ~word, word).astype(np.float32) * _TO_UNIT
