"""Whose job is next, in the databases of several tenants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from darkroom.contracts import GenerationRequest, GenerationResult
from darkroom.errors import Overloaded, RateLimited
from darkroom.jobs import JobStore, Lease
from darkroom.jobs.fairness import work_of
from darkroom.jobs.sql import SqlJobStore

MODELS = ("crayon",)
SMALL = GenerationRequest(prompt="a", seed=1, num_inference_steps=4, width=512, height=512)
LARGE = SMALL.model_copy(update={"num_inference_steps": 100, "num_images": 8})
RESULT = GenerationResult(images=[], seed=1, model="crayon", version="0" * 16, target="onnx-cpu")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    made: str = request.getfixturevalue("empty_postgres")
    return made


@pytest.fixture
def store(url: str) -> Iterator[SqlJobStore]:
    with closing(SqlJobStore(url)) as opened:
        yield opened


def accept(store: JobStore, tenant: str, *requests: GenerationRequest) -> None:
    for request in requests:
        store.create("crayon", request, tenant=tenant, idempotency=None)


def claim(store: JobStore) -> Lease:
    lease = store.claim("w", models=MODELS)
    assert lease is not None
    return lease


def served(store: JobStore, jobs: int) -> list[Lease]:
    """So many jobs, one after the other."""
    leases = []
    for _ in range(jobs):
        lease = claim(store)
        assert store.succeed(lease, RESULT)
        leases.append(lease)
    return leases


def jain(shares: Sequence[float]) -> float:
    """Jain, Chiu, Hawe 1984: 1 where all are equal, 1/n where one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


def test_work_is_images_times_steps_times_pixels() -> None:
    assert work_of(LARGE) == 200 * work_of(SMALL)
    assert work_of(SMALL.model_copy(update={"width": 1024})) == 2 * work_of(SMALL)
    assert work_of(GenerationRequest(prompt="a", width=8, height=8, num_inference_steps=1)) == 1


def test_a_small_request_does_not_wait_for_anothers_many_large_ones(store: SqlJobStore) -> None:
    """It waited for all of them: they came first."""
    accept(store, "greedy", *[LARGE] * 16)
    begun = [claim(store) for _ in range(4)]
    accept(store, "modest", SMALL)
    assert claim(store).job.tenant == "modest"
    assert all(store.succeed(lease, RESULT) for lease in begun)


def test_tenants_of_unequal_greed_have_equal_shares(store: SqlJobStore) -> None:
    sizes = {"a": [SMALL] * 100, "b": [LARGE] * 100, "c": [LARGE] * 20, "d": [SMALL, LARGE] * 50, "e": [LARGE] * 60}
    for tenant, requests in sizes.items():
        accept(store, tenant, *requests)
    work = Counter[str]()
    waiting = {tenant: sum(map(work_of, requests)) for tenant, requests in sizes.items()}
    while all(work[tenant] < waiting[tenant] or tenant == "a" for tenant in sizes):
        (lease,) = served(store, 1)
        work[lease.job.tenant] += work_of(lease.job.readable_request())
    assert work["a"] == waiting["a"]  # it asked for less than its share, and has it
    assert jain([work[tenant] for tenant in "bcde"]) > 0.99


def test_who_was_away_saves_nothing_up_and_owes_nothing(store: SqlJobStore) -> None:
    accept(store, "busy", *[LARGE] * 20)
    served(store, 5)
    accept(store, "back", *[LARGE] * 10)
    shares = Counter(lease.job.tenant for lease in served(store, 7))
    assert shares == {"busy": 4, "back": 3}  # one job ahead at most: it was next already


def test_a_tenants_own_jobs_keep_their_order_and_a_released_one_its_place(store: SqlJobStore) -> None:
    accept(store, "one", LARGE, SMALL, LARGE)
    first = claim(store)
    assert store.release(first, counts_as_attempt=False)
    order = [lease.job.readable_request().num_images for lease in served(store, 3)]
    assert order == [8, 1, 8]


def test_a_queue_that_nobody_serves_starves_nobody_later(store: SqlJobStore) -> None:
    accept(store, "early", *[LARGE] * 4)
    accept(store, "late", *[LARGE] * 4)
    assert Counter(lease.job.tenant for lease in served(store, 5)) == {"early": 3, "late": 2}


def test_a_tenant_has_a_share_of_the_queue(url: str) -> None:
    with closing(SqlJobStore(url, max_queued=5, max_tenant_queued=3)) as store:
        accept(store, "greedy", *[SMALL] * 3)
        with pytest.raises(RateLimited) as refused:
            accept(store, "greedy", SMALL)
        assert (refused.value.retry_after, refused.value.status) == (5, 429)
        accept(store, "modest", *[SMALL] * 2)
        with pytest.raises(Overloaded):
            accept(store, "late", SMALL)
        claim(store)
        claim(store)
        accept(store, "greedy", SMALL)


def test_what_a_tenant_has_finished_does_not_slow_down_its_next_job(tmp_path: Path) -> None:
    """Counted in the steps of SQLite's virtual machine; it read every job that the tenant had ever had."""

    def steps_of_an_acceptance(finished: int) -> int:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        with closing(SqlJobStore(f"sqlite:///{tmp_path}/{finished}.db")) as store:
            accept(store, "one", *[SMALL] * finished)
            served(store, finished)
            with store._database.read() as connection:
                assert connection.connection.driver_connection is not None
                connection.connection.driver_connection.set_progress_handler(step, 1)
            accept(store, "one", SMALL)
        return steps

    few, many = steps_of_an_acceptance(1), steps_of_an_acceptance(50)
    assert few > 100
    assert many < few + 20
