"""An entry comes back from its bytes as it was, or not at all."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from runtime.cache.entry import Damaged, Entry, halved, pack, unpack

ONES, ZEROS = np.ones((1, 2, 2), np.float16), np.zeros((1, 2, 2), np.float16)
ONE = Entry("s", "o", 2, 5, np.arange(3, dtype=np.float32), ONES, ZEROS)


def test_an_entry_comes_back(make_entry) -> None:
    for entry in (ONE, make_entry()):
        found = unpack(pack(entry))
        for name in ("scope", "id", "step", "steps"):
            assert getattr(found, name) == getattr(entry, name)
        np.testing.assert_array_equal(found.vector, entry.vector)
        np.testing.assert_array_equal(found.latents, entry.latents)
        assert (found.denoised is None) == (entry.denoised is None)


@given(place=st.integers(0, len(pack(ONE)) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(place: int, bit: int) -> None:
    packed = bytearray(pack(ONE))
    packed[place] ^= 1 << bit
    with pytest.raises(Damaged):
        unpack(bytes(packed))


@given(length=st.integers(0, len(pack(ONE)) - 1))
def test_any_truncation_is_found(length: int) -> None:
    with pytest.raises(Damaged):
        unpack(pack(ONE)[:length])


def test_what_is_whole_but_no_entry_is_damaged() -> None:

    body = save({"latents": np.ones(3, np.float16)})
    with pytest.raises(Damaged):
        unpack(b"latents1" + hashlib.sha256(body).digest() + body)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_latents_that_are_not_finite_in_half_precision_are_none(value: float) -> None:
    assert halved(np.array([1.0, value], np.float32)) is None
    assert halved(np.array([1.0, 2.0], np.float32)) is not None
