"""The memory of images that could not be stored is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.contracts import GenerationRequest
from runtime.bundles.tokenizer import Tokens
from runtime.serving.generation import Generation
from runtime.serving.unsent import Unsent

TOKENS = Tokens(np.zeros((1, 2), np.int64), 0)
IMAGE = np.zeros((10, 10, 3), np.uint8)


@pytest.fixture
def generations() -> list[Generation]:
    request = GenerationRequest(prompt="a cat", seed=1)
    return [Generation(str(i), "tenant", request, [], (TOKENS, TOKENS), accepted=0) for i in range(3)]


def test_the_oldest_are_forgotten_first(generations) -> None:
    unsent = Unsent(max_bytes=2 * IMAGE.nbytes)
    for generation in generations:
        unsent.keep(generation, [IMAGE])
    assert [unsent.find(generation) is not None for generation in generations] == [False, True, True]


def test_more_than_the_memory_holds_is_not_kept(generations) -> None:
    unsent = Unsent(max_bytes=IMAGE.nbytes)
    unsent.keep(generations[0], [IMAGE, IMAGE])
    assert unsent.find(generations[0]) is None


def test_forgetting_what_was_never_kept_is_no_error(generations) -> None:
    Unsent(max_bytes=0).forget(generations[0])
