"""The registry of caching policies."""

from __future__ import annotations

import pytest

from runtime.cache.calibrated import Calibration, PromptMap
from runtime.cache.policy import open_policy
from tests.unit.runtime.conftest import cache_spec, prompt_map_file


@pytest.mark.parametrize("name", ["nirvana", "lru", "lfu", "fifo"])
def test_the_published_policies_need_no_calibration(name: str) -> None:
    policy = open_policy(name, embedding_dim=4, end_token=1, calibration=None)
    assert (policy.name, policy.dimensions) == (name, 4)


def test_ours_needs_one() -> None:
    with pytest.raises(ValueError, match="calibrate-cache"):
        open_policy("darkroom", embedding_dim=4, end_token=1, calibration=None)
    calibration = Calibration(PromptMap(prompt_map_file()), cache_spec(), 0.99)
    assert open_policy("darkroom", embedding_dim=4, end_token=1, calibration=calibration).dimensions == 1
