"""When a ControlNet acts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.denoising.control import acting_steps

FRACTIONS = st.floats(0, 1) | st.sampled_from([0.0, 0.2, 0.25, 0.5, 0.75, 1.0])


@given(steps=st.integers(1, 100), entry=st.integers(0, 99), start=FRACTIONS, end=FRACTIONS)
def test_the_steps_are_those_of_diffusers(steps: int, entry: int, start: float, end: float) -> None:
    """`controlnet_keep` of StableDiffusionControlNet[Img2Img]Pipeline, over the steps that are run."""
    entry %= steps
    run = steps - entry
    keep = [1.0 - float(i / run < start or (i + 1) / run > end) for i in range(run)]
    acting = acting_steps(start, end, entry, steps)
    assert [float(entry + i in acting) for i in range(run)] == keep


def test_by_default_it_acts_in_all_steps_that_are_run() -> None:
    assert acting_steps(0.0, 1.0, 0, 25) == range(25)
    assert acting_steps(0.0, 1.0, 5, 25) == range(5, 25)
    assert acting_steps(0.5, 1.0, 0, 4) == range(2, 4)
    assert not acting_steps(0.0, 0.1, 0, 4)
