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


def test_what_is_kept_again_is_the_newest(generations) -> None:
    unsent = Unsent(max_bytes=2 * IMAGE.nbytes)
    for generation in (generations[0], generations[1], generations[0], generations[2]):
        unsent.keep(generation, [IMAGE])
    assert [unsent.find(generation) is not None for generation in generations] == [True, False, True]


def test_the_images_come_back_until_they_are_forgotten(generations) -> None:
    unsent, images = Unsent(max_bytes=2 * IMAGE.nbytes), [IMAGE, IMAGE + 1]
    unsent.keep(generations[0], images)
    images.clear()
    assert [int(image.max()) for image in unsent.find(generations[0]) or []] == [0, 1]
    unsent.forget(generations[0])
    assert unsent.find(generations[0]) is None


def test_another_tenant_or_request_of_that_id_finds_nothing(generations) -> None:
    unsent = Unsent(max_bytes=IMAGE.nbytes)
    unsent.keep(generations[0], [IMAGE])
    request = generations[0].request
    for tenant, other in (("another", request), ("tenant", request.model_copy(update={"seed": 2}))):
        assert unsent.find(Generation("0", tenant, other, [], (TOKENS, TOKENS), accepted=0)) is None
    assert unsent.find(Generation("0", "tenant", request.model_copy(), [], (TOKENS, TOKENS), accepted=0)) is not None
