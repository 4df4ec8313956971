"""Which failures are worth another attempt."""

import pytest

from darkroom import errors
from darkroom.inference import Unreached
from darkroom.inference.disposition import Disposition, disposition


@pytest.mark.parametrize("error", [errors.Overloaded(), errors.Draining(), Unreached()])
def test_what_was_not_tried_costs_no_attempt(error: errors.DarkroomError) -> None:
    assert disposition(error) is Disposition.REQUEUE


@pytest.mark.parametrize("error", [errors.GenerationFailed(), errors.RuntimeUnavailable()])
def test_what_may_have_been_bad_luck_is_tried_again(error: errors.DarkroomError) -> None:
    assert disposition(error) is Disposition.RETRY


@pytest.mark.parametrize(
    "error",
    [
        errors.GenerationInvalid(),
        errors.InvalidDimensions(),
        errors.OutOfMemory(),
        errors.DeadlineExceeded(),
        errors.StorageUnavailable(),  # row 67: the image is not made again
        errors.StorageFull(),
        errors.DarkroomError(),
    ],
)
def test_anything_else_is_the_answer(error: errors.DarkroomError) -> None:
    assert disposition(error) is Disposition.FAIL
