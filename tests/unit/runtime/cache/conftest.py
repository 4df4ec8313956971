"""Entries of any kind, without an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runtime.cache.entry import Entry

SHAPE = (4, 4, 4)


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    """An entry of 128 bytes of latents, its prompt at `at` on a line."""

    def make(origin: str = "one", at: float = 0.0, **fields: Any) -> Entry:
        plain: dict[str, Any] = {
            "scope": "scope",
            "origin": origin,
            "step": 4,
            "steps": 4,
            "vector": np.array([at, 0], np.float32),
            "latents": np.full(SHAPE, at, np.float16),
        }
        return Entry(**{**plain, **fields})

    return make
