"""The batching policy, without an array in sight."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.denoising.batcher import Batcher

REPEATABLE = settings(deadline=None, derandomize=True)

SIZES = [(4, 4), (8, 8), (4, 8)]


@dataclass(eq=False)
class Row:
    request: int
    steps_left: int = 4
    rows: int = 2
    size: tuple[int, int] = (4, 4)
    index: int = 0
    last_turn: int = 0


def requests(*steps: int, **fields: int) -> list[Row]:
    return [Row(number, left, **fields) for number, left in enumerate(steps)]


def play(
    batcher: Batcher, rows: list[Row], arrivals: dict[int, Row] | None = None
) -> tuple[list[int], list[list[Row]]]:
    """Turn until nothing is left; the requests in the order they finished, and the batches."""
    arrivals, live = dict(arrivals or {}), list(rows)
    finished: list[int] = []
    batches: list[list[Row]] = []
    turn = 0
    while live or arrivals:
        if turn in arrivals:
            row = arrivals.pop(turn)
            row.last_turn = turn
            live.append(row)
        batch = batcher.pick(live, turn)
        turn += 1
        batches.append(batch)
        for row in batch:
            row.steps_left -= 1
            row.last_turn = turn
        for row in [row for row in live if row.steps_left == 0]:
            live.remove(row)
            if not any(other.request == row.request for other in live):
                finished.append(row.request)
    return finished, batches


def test_nothing_to_do_is_an_empty_batch() -> None:
    assert Batcher(8, 8).pick([], 0) == []


def test_what_is_left_decides_not_who_came_first() -> None:
    finished, _ = play(Batcher(4, 100), requests(50, 4, 20, 8))
    assert finished == [1, 3, 2, 0]


def test_different_steps_share_a_batch() -> None:
    rows = requests(50, 4, 20)
    assert {row.steps_left for row in Batcher(8, 8).pick(rows, 0)} == {50, 4, 20}


def test_guided_and_unguided_rows_share_a_batch_up_to_the_cap() -> None:
    rows = [Row(0, 1, rows=2), Row(1, 2, rows=1), Row(2, 3, rows=2), Row(3, 4, rows=1)]
    assert [row.request for row in Batcher(4, 8).pick(rows, 0)] == [0, 1, 3]


def test_only_one_size_a_batch() -> None:
    rows = [Row(0, 3), Row(1, 1, size=(8, 8)), Row(2, 4)]
    assert [row.request for row in Batcher(8, 8).pick(rows, 0)] == [0, 2]


def test_a_larger_image_is_more_work() -> None:
    rows = [Row(0, 4, size=(8, 8)), Row(1, 5, size=(4, 4))]
    assert Batcher(8, 8).pick(rows, 0)[0].request == 1


def test_images_of_a_request_count_together() -> None:
    four_images = [Row(0, 10, index=index) for index in range(4)]
    one_image = Row(1, 30)
    finished, _ = play(Batcher(2, 100), [*four_images, one_image])
    assert finished == [1, 0]


def test_equal_work_goes_by_arrival() -> None:
    finished, _ = play(Batcher(2, 100), [Row(1), Row(0), Row(2)])
    assert finished == [0, 1, 2]


def test_a_newcomer_with_less_to_do_overtakes() -> None:
    finished, _ = play(Batcher(2, 100), requests(20), arrivals={5: Row(1, 3)})
    assert finished == [1, 0]


def test_strict_mode_runs_every_trajectory_alone() -> None:
    _, batches = play(Batcher(8, 8, strict=True), requests(3, 5, 2))
    assert all(len(batch) == 1 for batch in batches)


def test_an_aged_trajectory_of_another_size_gets_its_turn() -> None:
    large = Row(0, 50, size=(8, 8))
    crowd = {turn: Row(turn + 1, 2) for turn in range(40)}
    _, batches = play(Batcher(4, 5), [large], arrivals=crowd)
    first_turns = [turn for turn, batch in enumerate(batches[:40]) if large in batch]
    assert len(first_turns) >= 5


def test_ageing_begins_when_the_bound_is_passed() -> None:
    batcher = Batcher(2, 10)
    passed_over, newcomer = Row(0, 50, last_turn=5), Row(1, 1, last_turn=15)
    assert batcher.pick([passed_over, newcomer], 15) == [newcomer]  # passed over ten times
    assert batcher.pick([passed_over, newcomer], 16) == [passed_over]


def test_memory_that_ran_out_lowers_the_cap_of_that_size_only() -> None:
    batcher = Batcher(8, 8)
    batcher.too_many((4, 4), 8)
    assert (batcher.row_cap((4, 4)), batcher.row_cap((8, 8))) == (4, 8)
    batcher.too_many((4, 4), 8)
    assert batcher.row_cap((4, 4)) == 4
    batcher.too_many((4, 4), 2)
    assert batcher.row_cap((4, 4)) == 2
    assert len(batcher.pick(requests(1, 1, 1), 0)) == 1


trajectories = st.lists(
    st.builds(
        Row,
        request=st.integers(0, 9),
        steps_left=st.integers(1, 100),
        rows=st.sampled_from([1, 2]),
        size=st.sampled_from(SIZES),
        index=st.integers(0, 7),
        last_turn=st.integers(0, 50),
    ),
    max_size=30,
)


@REPEATABLE
@given(trajectories, st.integers(2, 16), st.integers(1, 20), st.booleans())
def test_a_batch_is_one_size_within_the_cap_and_without_repetition(
    rows: list[Row], cap: int, ageing: int, strict: bool
) -> None:
    batch = Batcher(cap, ageing, strict=strict).pick(rows, 60)
    assert bool(batch) == bool(rows)
    assert len({row.size for row in batch}) <= 1
    assert sum(row.rows for row in batch) <= cap
    assert len({id(row) for row in batch}) == len(batch)
    assert all(any(row is given for given in rows) for row in batch)


@REPEATABLE
@given(trajectories, st.integers(2, 16), st.integers(1, 20))
def test_no_row_that_fits_is_left_out(rows: list[Row], cap: int, ageing: int) -> None:
    batch = Batcher(cap, ageing).pick(rows, 60)
    free = cap - sum(row.rows for row in batch)
    left = [row for row in rows if all(row is not taken for taken in batch)]
    assert not any(row.size == batch[0].size and row.rows <= free for row in left)


@REPEATABLE
@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(2, 16))
def test_the_order_of_finishing_follows_the_work(steps: list[int], cap: int) -> None:
    finished, _ = play(Batcher(cap, 10_000), requests(*steps))
    assert [steps[request] for request in finished] == sorted(steps)


@REPEATABLE
@given(trajectories, st.integers(2, 8), st.integers(1, 12))
def test_nobody_starves_beyond_the_ageing_bound(rows: list[Row], cap: int, ageing: int) -> None:
    """Every candidate keeps coming back, so that the crowd never thins out."""
    batcher = Batcher(cap, ageing)
    for row in rows:
        row.last_turn = 0
    for turn in range(150):
        assert all(turn - row.last_turn <= ageing + len(rows) for row in rows)
        for row in batcher.pick(rows, turn):
            row.last_turn = turn + 1


@REPEATABLE
@given(trajectories, st.integers(2, 16), st.integers(1, 20), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_candidates(
    rows: list[Row], cap: int, ageing: int, random
) -> None:
    unique = list({(row.request, row.index): row for row in rows}.values())
    shuffled = list(unique)
    random.shuffle(shuffled)
    assert Batcher(cap, ageing).pick(unique, 60) == Batcher(cap, ageing).pick(shuffled, 60)


@pytest.mark.parametrize("module", ["numpy", "openvino", "runtime.denoising.trajectory"])
def test_the_policy_needs_no_arrays(module: str) -> None:
    code = f"import sys, runtime.denoising.batcher; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_that_pay_are_learned_for_each_size_and_bounded_by_memory() -> None:
    batcher = Batcher(8, 8, learns=True)
    assert not any(batcher.timed((4, 4), rows, 1.0) for rows in [2, 4] * 5), "four are cheaper a row than two"
    assert batcher.row_cap((4, 4)) == 4
    assert batcher.row_cap((8, 8)) == 2
    batcher.too_many((4, 4), 4)
    assert batcher.row_cap((4, 4)) == 2
    untaught = Batcher(8, 8)
    assert not any(untaught.timed((4, 4), rows, float(rows)) for rows in [2, 4] * 9)
    assert untaught.row_cap((4, 4)) == 8
