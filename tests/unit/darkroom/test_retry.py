"""How often something is tried, and what passes at once."""

from __future__ import annotations

import asyncio

import pytest

from darkroom.retry import Retry


class Flaky:
    """Fails with each of these errors in turn, then gives 7."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = iter(errors)
        self.slept: list[float] = []

    def __call__(self) -> int:
        for error in self.errors:
            raise error
        return 7

    async def later(self) -> int:
        return self()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def call(flaky: Flaky, retry: Retry) -> int:
    return retry.call(flaky, on=(KeyError, OSError), sleep=flaky.slept.append)


def call_async(flaky: Flaky, retry: Retry) -> int:
    return asyncio.run(retry.call_async(flaky.later, on=(KeyError, OSError), sleep=flaky.sleep))


@pytest.mark.parametrize("called", [call, call_async])
def test_it_is_tried_until_it_works_and_pauses_double(called) -> None:
    flaky = Flaky(KeyError(), OSError(), KeyError())
    assert called(flaky, Retry(tries=5, pause=0.25)) == 7
    assert flaky.slept == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("called", [call, call_async])
def test_the_last_error_passes(called) -> None:
    flaky = Flaky(KeyError("first"), OSError("last"), KeyError("never"))
    with pytest.raises(OSError, match="last"):
        called(flaky, Retry(tries=2, pause=1.0))
    assert flaky.slept == [1.0]


@pytest.mark.parametrize("called", [call, call_async])
def test_another_error_passes_at_once(called) -> None:
    flaky = Flaky(ValueError("ours"), KeyError())
    with pytest.raises(ValueError, match="ours"):
        called(flaky, Retry(tries=9))
    assert flaky.slept == []
