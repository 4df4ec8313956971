"""What every JobStore owes its callers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from darkroom.contracts import (
    GeneratedImage,
    GenerationRequest,
    GenerationResult,
    GenerationWarning,
    Job,
    JobStatus,
    OutputFormat,
    Progress,
    Timings,
)
from darkroom.errors import (
    GenerationFailed,
    IdempotencyKeyReused,
    JobFinished,
    JobNotFound,
    JobUnfinished,
    Overloaded,
    Poisoned,
    Unreadable,
)
from darkroom.jobs import Accepted, Idempotency, JobStore

MODELS = ("crayon",)
LEASE_SECONDS = 10.0
REQUEST = GenerationRequest(prompt='a large red heart 心 on "blue"', seed=7, output_format=OutputFormat.WEBP)
IMAGE = GeneratedImage(
    key="images/a/0.webp", seed=7, width=128, height=128, content_type="image/webp", size=10, sha256="0" * 64
)
RESULT = GenerationResult(
    images=[IMAGE],
    seed=7,
    model="crayon",
    version="0" * 16,
    target="onnx-cpu",
    timings=Timings(total=1.5),
    warnings=[GenerationWarning(code="prompt_truncated", detail="77 tokens are read.")],
)
PROBLEM = GenerationFailed("The engine failed.").problem("request-1")


class Clock(Protocol):
    now: float


class Database(Protocol):
    wall: Clock
    monotonic: Clock

    def open(self, *, max_queued: int = ..., max_attempts: int = ...) -> JobStore: ...

    def overwrite(self, job_id: str, **columns: str) -> None: ...


def submit(store: JobStore, prompt: str = "a cat", *, tenant: str = "default", key: str | None = None) -> Job:
    idempotency = Idempotency(key, prompt) if key else None
    return store.create("crayon", GenerationRequest(prompt=prompt), tenant=tenant, idempotency=idempotency).job


# ---- accepting ----------------------------------------------------------------------------------------------------


def test_a_job_comes_back_as_it_went_in(database: Database) -> None:
    store = database.open()
    accepted = store.create("crayon", REQUEST, tenant="one", idempotency=None)
    assert not accepted.replayed
    assert accepted.job.request == REQUEST
    assert accepted.job.status is JobStatus.QUEUED
    assert accepted.job.created_at == database.wall.now
    assert store.get(accepted.job.id, tenant="one") == accepted.job
    assert database.open().get(accepted.job.id, tenant="one") == accepted.job


def test_another_tenants_job_is_not_found(database: Database) -> None:
    store = database.open()
    job = submit(store, tenant="one")
    for operation in (store.get, store.cancel):
        with pytest.raises(JobNotFound):
            operation(job.id, tenant="two")
        with pytest.raises(JobNotFound):
            operation("nothing", tenant="one")
    assert store.get(job.id, tenant="one").status is JobStatus.QUEUED


def test_the_same_key_gives_the_first_job_again(database: Database) -> None:
    store = database.open()
    first = store.create("crayon", REQUEST, tenant="one", idempotency=Idempotency("k", "f"))
    again = database.open().create("crayon", REQUEST.seeded(), tenant="one", idempotency=Idempotency("k", "f"))
    assert again == Accepted(first.job, replayed=True)
    assert store.counts()[JobStatus.QUEUED] == 1

    lease = store.claim("w", models=MODELS)
    assert lease
    assert store.succeed(lease, RESULT)
    finished = store.create("crayon", REQUEST, tenant="one", idempotency=Idempotency("k", "f"))
    assert finished.replayed
    assert finished.job.result == RESULT


@pytest.mark.parametrize(("model", "fingerprint"), [("crayon", "other"), ("other", "f")])
def test_a_key_may_not_stand_for_another_request(database: Database, model: str, fingerprint: str) -> None:
    store = database.open()
    store.create("crayon", REQUEST, tenant="one", idempotency=Idempotency("k", "f"))
    with pytest.raises(IdempotencyKeyReused):
        store.create(model, REQUEST, tenant="one", idempotency=Idempotency("k", fingerprint))
    assert store.counts()[JobStatus.QUEUED] == 1


def test_keys_are_each_tenants_own(database: Database) -> None:
    store = database.open()
    first = store.create("crayon", REQUEST, tenant="one", idempotency=Idempotency("k", "f"))
    second = store.create("crayon", REQUEST, tenant="two", idempotency=Idempotency("k", "g"))
    assert not second.replayed
    assert first.job.id != second.job.id


def test_racing_submissions_of_one_key_make_one_job(database: Database) -> None:
    stores = [database.open() for _ in range(4)]

    def create(number: int) -> Accepted:
        store = stores[number % 4]
        return store.create("crayon", REQUEST, tenant="one", idempotency=Idempotency("k", "f"))

    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(create, range(16)))
    assert len({each.job.id for each in accepted}) == 1
    assert [each.replayed for each in accepted].count(False) == 1


def test_a_full_queue_refuses_but_still_replays(database: Database) -> None:
    store = database.open(max_queued=2)
    first = submit(store, key="k")
    submit(store)
    with pytest.raises(Overloaded) as refused:
        submit(store)
    assert refused.value.retry_after
    assert submit(store, key="k").id == first.id
    assert store.claim("w", models=MODELS)  # running jobs are not in the queue
    submit(store)


def test_a_submission_whose_answer_is_lost_makes_one_job(
    database: Database, lose_answers: Callable[[JobStore], None]
) -> None:
    for idempotency in (None, Idempotency("k", "f")):
        store = database.open()
        lose_answers(store)
        accepted = store.create("crayon", REQUEST, tenant="one", idempotency=idempotency)
        assert not accepted.replayed
        assert accepted.job.request == REQUEST
        lease = database.open().claim("w", models=MODELS)
        assert lease
        assert lease.job.id == accepted.job.id
    assert sum(database.open().counts().values()) == 2


# ---- claiming -----------------------------------------------------------------------------------------------------


def test_jobs_are_claimed_in_the_order_they_were_accepted_whatever_the_clock_says(database: Database) -> None:
    store = database.open()
    jobs = []
    for _ in range(4):
        jobs.append(submit(store).id)
        database.wall.now -= 3600
    claimed = [store.claim("w", models=MODELS) for _ in range(5)]
    assert [lease and lease.job.id for lease in claimed] == [*jobs, None]


def test_only_jobs_of_the_models_that_are_served_are_claimed(database: Database) -> None:
    one, two = database.open(), database.open()
    jobs = {
        model: [one.create(model, REQUEST, tenant="one", idempotency=None).job.id for _ in range(2)] for model in "abc"
    }
    claimed = [two.claim("w", models=("b", "c")) for _ in range(5)]
    assert claimed.pop() is None
    ids = [lease.job.id for lease in claimed if lease]
    assert [[job for job in ids if job in jobs[model]] for model in "bc"] == [jobs["b"], jobs["c"]]
    assert all(one.find(job).attempts == 0 for job in jobs["a"])
    claimed = [one.claim("v", models={"a"}) for _ in range(3)]
    assert [lease and lease.job.id for lease in claimed] == [*jobs["a"], None]


def test_a_silent_job_is_taken_over_only_by_who_serves_its_model(database: Database) -> None:
    one, two = database.open(max_attempts=1), database.open(max_attempts=1)
    job = one.create("a", REQUEST, tenant="one", idempotency=None).job
    assert one.claim("w", models={"a"})
    for _ in range(2):
        assert two.claim("v", models={"b"}) is None
        database.monotonic.now += LEASE_SECONDS
    assert one.find(job.id).status is JobStatus.RUNNING  # nor is it given up by who cannot try it
    assert two.claim("v", models={"a", "b"}) is None
    assert one.find(job.id).error == Poisoned().problem()


def test_claiming_starts_an_attempt(database: Database) -> None:
    store = database.open()
    job = submit(store)
    database.wall.now += 5
    lease = store.claim("w", models=MODELS)
    assert lease
    assert lease.job == store.get(job.id, tenant="default")
    assert (lease.job.status, lease.job.attempts, lease.job.started_at) == (JobStatus.RUNNING, 1, database.wall.now)


def test_racing_workers_never_share_a_job(database: Database) -> None:
    stores = [database.open() for _ in range(4)]
    submitted = {submit(stores[0]).id for _ in range(24)}

    def work(store: JobStore) -> list[str]:
        claimed = []
        while lease := store.claim("w", models=MODELS):
            claimed.append(lease.job.id)
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claimed = [job_id for each in pool.map(work, stores) for job_id in each]
    assert len(claimed) == len(submitted)
    assert set(claimed) == submitted


def test_a_beating_job_is_never_taken_over(database: Database) -> None:
    holder, other = database.open(), database.open()
    submit(holder)
    lease = holder.claim("w", models=MODELS)
    assert lease
    for step in range(20):
        assert other.claim("v", models=MODELS) is None
        database.monotonic.now += LEASE_SECONDS - 1
        assert holder.beat(lease, Progress(step=step, steps=20))
    assert holder.get(lease.job.id, tenant="default").progress == Progress(step=19, steps=20)


def test_a_silent_job_is_taken_over_and_its_old_holder_fenced(database: Database) -> None:
    holder, other = database.open(), database.open()
    job = submit(holder)
    stale = holder.claim("w", models=MODELS)
    assert stale
    assert holder.beat(stale, Progress(step=3, steps=8))
    assert other.claim("v", models=MODELS) is None  # the first look starts the watch
    database.monotonic.now += LEASE_SECONDS
    lease = other.claim("v", models=MODELS)
    assert lease
    assert lease.job.id == job.id
    assert lease.token != stale.token
    assert (lease.job.attempts, lease.job.progress) == (2, Progress())

    assert not holder.beat(stale, Progress(step=4, steps=8))
    assert not holder.succeed(stale, RESULT)
    assert not holder.fail(stale, PROBLEM)
    assert not holder.release(stale, counts_as_attempt=False)
    assert other.get(job.id, tenant="default") == lease.job

    assert other.succeed(lease, RESULT)
    assert other.get(job.id, tenant="default").result == RESULT


def test_a_watcher_counts_from_its_own_first_look(database: Database) -> None:
    holder = database.open()
    submit(holder)
    assert holder.claim("w", models=MODELS)
    database.monotonic.now += 100 * LEASE_SECONDS
    late = database.open()
    assert late.claim("v", models=MODELS) is None
    database.monotonic.now += LEASE_SECONDS - 0.1
    assert late.claim("v", models=MODELS) is None
    database.monotonic.now += 0.1
    assert late.claim("v", models=MODELS)


def test_only_one_watcher_takes_over(database: Database) -> None:
    watchers = [database.open() for _ in range(4)]
    submit(watchers[0])
    assert watchers[0].claim("w", models=MODELS)
    for watcher in watchers:
        assert watcher.claim("v", models=MODELS) is None
    database.monotonic.now += LEASE_SECONDS
    with ThreadPoolExecutor(4) as pool:
        leases = list(pool.map(lambda watcher: watcher.claim("v", models=MODELS), watchers))
    assert sum(lease is not None for lease in leases) == 1


def test_a_silent_job_goes_before_the_queue(database: Database) -> None:
    store = database.open()
    silent = submit(store)
    assert store.claim("w", models=MODELS)
    submit(store)
    assert store.claim("w", models=MODELS)
    submit(store)
    assert store.claim("w", models=MODELS)
    assert store.claim("w", models=MODELS) is None
    waiting = submit(store)
    database.monotonic.now += LEASE_SECONDS
    first = store.claim("v", models=MODELS)
    assert first
    assert first.job.id == silent.id
    rest = [lease.job.id for _ in range(3) if (lease := store.claim("v", models=MODELS))]
    assert rest[-1] == waiting.id


def test_a_job_whose_workers_all_die_is_poisoned_and_its_neighbours_are_not(database: Database) -> None:
    store = database.open(max_attempts=3)
    poison = submit(store)
    for _ in range(3):
        lease = store.claim("w", models=MODELS)
        assert lease
        assert lease.job.id == poison.id
        assert store.claim("w", models=MODELS) is None
        database.monotonic.now += LEASE_SECONDS
    neighbour = submit(store)
    lease = store.claim("w", models=MODELS)
    assert lease
    assert lease.job.id == neighbour.id
    given_up = store.get(poison.id, tenant="default")
    assert (given_up.status, given_up.attempts) == (JobStatus.FAILED, 3)
    assert given_up.error == Poisoned().problem()
    assert given_up.finished_at == database.wall.now


# ---- ending -------------------------------------------------------------------------------------------------------


def test_success_and_failure_are_kept(database: Database) -> None:
    store = database.open()
    submit(store), submit(store)
    first, second = store.claim("w", models=MODELS), store.claim("w", models=MODELS)
    assert first
    assert second
    assert store.succeed(first, RESULT)
    assert store.fail(second, PROBLEM)
    succeeded, failed = (store.get(lease.job.id, tenant="default") for lease in (first, second))
    assert (succeeded.status, succeeded.result, succeeded.error) == (JobStatus.SUCCEEDED, RESULT, None)
    assert (failed.status, failed.result, failed.error) == (JobStatus.FAILED, None, PROBLEM)
    assert succeeded.finished_at == failed.finished_at == database.wall.now


def test_a_finished_job_never_changes_again(database: Database) -> None:
    store = database.open()
    submit(store)
    lease = store.claim("w", models=MODELS)
    assert lease
    assert store.succeed(lease, RESULT)
    finished = store.get(lease.job.id, tenant="default")
    assert not store.succeed(lease, RESULT)
    assert not store.fail(lease, PROBLEM)
    assert not store.beat(lease, Progress())
    assert not store.release(lease, counts_as_attempt=True)
    with pytest.raises(JobFinished):
        store.cancel(lease.job.id, tenant="default")
    database.monotonic.now += 100 * LEASE_SECONDS
    assert store.claim("w", models=MODELS) is None
    assert store.get(lease.job.id, tenant="default") == finished


def test_a_queued_job_can_be_cancelled(database: Database) -> None:
    store = database.open()
    job = submit(store)
    cancelled = store.cancel(job.id, tenant="default")
    assert (cancelled.status, cancelled.finished_at) == (JobStatus.CANCELLED, database.wall.now)
    assert store.get(job.id, tenant="default") == cancelled
    assert store.claim("w", models=MODELS) is None
    with pytest.raises(JobFinished):
        store.cancel(job.id, tenant="default")


def test_a_running_job_can_be_cancelled_and_its_worker_hears_of_it(database: Database) -> None:
    store = database.open()
    submit(store)
    lease = store.claim("w", models=MODELS)
    assert lease
    assert store.beat(lease, Progress(step=1, steps=2))
    assert store.cancel(lease.job.id, tenant="default").status is JobStatus.CANCELLED
    assert not store.beat(lease, Progress(step=2, steps=2))
    assert not store.succeed(lease, RESULT)
    assert store.get(lease.job.id, tenant="default").status is JobStatus.CANCELLED


def test_a_released_job_keeps_its_place_and_counts_attempts_as_told(database: Database) -> None:
    store = database.open(max_attempts=2)
    job = submit(store)
    submit(store)
    for _ in range(5):
        lease = store.claim("w", models=MODELS)
        assert lease
        assert (lease.job.id, lease.job.attempts) == (job.id, 1)
        assert store.beat(lease, Progress(step=1, steps=8))
        assert store.release(lease, counts_as_attempt=False)
        assert not store.beat(lease, Progress(step=2, steps=8))
        assert store.get(job.id, tenant="default") == job
    for attempt in (1, 2):
        lease = store.claim("w", models=MODELS)
        assert lease
        assert (lease.job.id, lease.job.attempts) == (job.id, attempt)
        assert store.release(lease, counts_as_attempt=True)
    lease = store.claim("w", models=MODELS)
    assert lease
    assert lease.job.id != job.id
    assert store.get(job.id, tenant="default").error == Poisoned().problem()


# ---- what is told by a service that runs jobs ---------------------------------------------------------------------


def test_who_hears_of_a_jobs_end_finds_and_settles_it_once(database: Database) -> None:
    store = database.open()
    made, broken = submit(store, tenant="one"), submit(store, tenant="two")
    assert store.find(made.id) == made
    database.wall.now += 5
    assert store.settle(made.id, RESULT)
    assert store.settle(broken.id, PROBLEM)
    succeeded, failed = store.get(made.id, tenant="one"), store.find(broken.id)
    assert (succeeded.status, succeeded.result, succeeded.error) == (JobStatus.SUCCEEDED, RESULT, None)
    assert (failed.status, failed.result, failed.error) == (JobStatus.FAILED, None, PROBLEM)
    assert succeeded.finished_at == database.wall.now

    for late in (RESULT, PROBLEM):  # told again, or the other way
        assert not store.settle(made.id, late)
        assert not store.settle(broken.id, late)
    assert [store.find(job.id) for job in (made, broken)] == [succeeded, failed]
    assert store.claim("w", models=MODELS) is None


def test_a_cancelled_job_is_not_settled_and_an_unknown_one_not_found(database: Database) -> None:
    store = database.open()
    cancelled = store.cancel(submit(store).id, tenant="default")
    assert not store.settle(cancelled.id, RESULT)
    assert store.find(cancelled.id) == cancelled
    for unknown in ("0" * 32, "sequence", "", "key:x", "x" * 5000):
        with pytest.raises(JobNotFound):
            store.find(unknown)
        with pytest.raises(JobNotFound):
            store.settle(unknown, RESULT)


def test_settling_fences_whoever_holds_the_lease(database: Database) -> None:
    store = database.open()
    submit(store)
    lease = store.claim("w", models=MODELS)
    assert lease
    assert store.settle(lease.job.id, RESULT)
    assert not store.beat(lease, Progress())
    assert not store.fail(lease, PROBLEM)


def test_racing_settlements_end_a_job_once(database: Database) -> None:
    stores = [database.open() for _ in range(4)]
    job = submit(stores[0])
    with ThreadPoolExecutor(8) as pool:
        settled = list(pool.map(lambda n: stores[n % 4].settle(job.id, RESULT if n % 2 else PROBLEM), range(8)))
    assert settled.count(True) == 1


def test_what_is_overdue(database: Database) -> None:
    store = database.open()
    waiting, running, ended = submit(store), submit(store), submit(store)
    first, second = store.claim("w", models=MODELS), store.claim("w", models=MODELS)
    assert first
    assert second
    assert store.release(first, counts_as_attempt=False)
    assert second.job.id == running.id
    store.settle(ended.id, PROBLEM)
    database.wall.now += 60
    submit(store)
    assert {job.id for job in store.overdue(accepted_before=database.wall.now)} == {waiting.id, running.id}
    assert store.overdue(accepted_before=database.wall.now - 60) == []


# ---- housekeeping -------------------------------------------------------------------------------------------------


def test_counts(database: Database) -> None:
    store = database.open()
    assert store.counts() == dict.fromkeys(JobStatus, 0)
    for _ in range(6):
        submit(store)
    first, second, _ = store.claim("w", models=MODELS), store.claim("w", models=MODELS), store.claim("w", models=MODELS)
    assert first
    assert second
    store.succeed(first, RESULT)
    store.fail(second, PROBLEM)
    store.cancel(submit(store).id, tenant="default")
    assert store.counts() == {
        JobStatus.QUEUED: 3,
        JobStatus.RUNNING: 1,
        JobStatus.SUCCEEDED: 1,
        JobStatus.FAILED: 1,
        JobStatus.CANCELLED: 1,
    }


def test_an_attempt_is_counted_once(database: Database) -> None:
    stores = [database.open() for _ in range(4)]
    job = submit(stores[0])
    with ThreadPoolExecutor(4) as pool:
        counted = list(pool.map(lambda store: store.record_attempts(job.id, 2, was=0), stores))
    assert sorted(counted) == [False, False, False, True]
    assert stores[0].find(job.id).attempts == 2
    assert stores[0].record_attempts(job.id, 1, was=2)
    assert stores[0].settle(job.id, RESULT)
    assert not stores[0].record_attempts(job.id, 2, was=1)
    with pytest.raises(JobNotFound):
        stores[0].record_attempts("0" * 32, 2, was=1)


def test_purge_forgets_only_what_finished_before(database: Database) -> None:
    store = database.open()
    old = submit(store, key="k")
    store.cancel(old.id, tenant="default")
    database.wall.now += 60
    recent = submit(store)
    store.cancel(recent.id, tenant="default")
    queued, _ = submit(store), submit(store)
    running = store.claim("w", models=MODELS)
    assert running
    assert store.purge(finished_before=database.wall.now) == 1
    with pytest.raises(JobNotFound):
        store.get(old.id, tenant="default")
    assert not store.create("crayon", REQUEST, tenant="default", idempotency=Idempotency("k", "other")).replayed
    assert store.get(recent.id, tenant="default").status is JobStatus.CANCELLED
    database.wall.now += 1e6
    assert store.purge(finished_before=database.wall.now) == 1
    assert store.get(queued.id, tenant="default").status is JobStatus.RUNNING


NOT_OURS = ["{}", "no JSON", '{"prompt": "a dog", "of_a_newer_release": 1}', "", "[]", '{"prompt": "\\ud800"}']


@pytest.mark.parametrize("text", NOT_OURS)
def test_a_job_that_cannot_be_read_stands_in_nobodys_way(database: Database, text: str) -> None:
    store = database.open()
    broken, whole = submit(store), submit(store)
    database.overwrite(broken.id, request=text)
    assert store.get(broken.id, tenant=broken.tenant).request is None
    lease = store.claim("w", models={"crayon"})
    assert lease is not None
    assert lease.job.id == broken.id
    with pytest.raises(Unreadable):
        lease.job.readable_request()
    assert store.fail(lease, Unreadable().problem())
    ended = store.get(broken.id, tenant=broken.tenant)
    assert (ended.status, ended.error) == (JobStatus.FAILED, Unreadable().problem())
    after = store.claim("w", models={"crayon"})
    assert after is not None
    assert after.job.id == whole.id


def test_a_job_that_cannot_be_read_is_cancelled_and_overdue_as_others(database: Database) -> None:
    store = database.open()
    first, second = submit(store), submit(store)
    for job in (first, second):
        database.overwrite(job.id, request="{}")
    assert store.cancel(first.id, tenant=first.tenant).status is JobStatus.CANCELLED
    assert [job.id for job in store.overdue(accepted_before=database.wall() + 1)] == [second.id]
    assert store.settle(second.id, Unreadable().problem())


@pytest.mark.parametrize("text", ["{}", "no JSON"])
def test_an_end_that_cannot_be_read_is_a_failure_and_stays_one(database: Database, text: str) -> None:
    store = database.open()
    ids = []
    for outcome, name in ((RESULT, "result"), (Poisoned().problem(), "error")):
        job = submit(store)
        assert store.settle(job.id, outcome)
        database.overwrite(job.id, **{name: text})
        ended = store.get(job.id, tenant=job.tenant)
        assert (ended.status, ended.result, ended.error) == (JobStatus.FAILED, None, Unreadable().problem())
        ids.append(job.id)
    database.overwrite(ids[0], status="paused")
    assert store.get(ids[0], tenant="default").status is JobStatus.FAILED
    assert sum(store.counts().values()) == 1


def test_a_tenant_who_has_none_at_work_is_found_behind_anothers_jobs(database: Database) -> None:
    store = database.open()
    greedy = [submit(store, tenant="greedy") for _ in range(3)]
    modest = submit(store, tenant="modest")
    lease = store.claim("w", models=MODELS, but_not_of={"greedy", "nobody"})
    assert lease is not None
    assert lease.job.id == modest.id
    assert store.claim("w", models=MODELS, but_not_of={"greedy", "modest"}) is None
    database.monotonic.now += 100 * LEASE_SECONDS
    assert store.claim("w", models=MODELS, but_not_of={"greedy", "modest"}) is None  # nor anybody's who fell silent
    following = store.claim("w", models=MODELS)
    assert following is not None
    assert following.job.id in {greedy[0].id, modest.id}


# ---- a tenant's own jobs ------------------------------------------------------------------------------------------


def accepted(store: JobStore, number: int, tenant: str = "one", model: str = "crayon") -> list[str]:
    return [store.create(model, REQUEST, tenant=tenant, idempotency=None).job.id for _ in range(number)]


def test_a_tenants_jobs_are_listed_newest_first_page_by_page(database: Database) -> None:
    store = database.open()
    mine = []
    for _ in range(5):
        mine += accepted(store, 1)
        accepted(store, 1, tenant="two")
    first = store.page("one", limit=2)
    second = store.page("one", limit=2, before=first.next)
    last = store.page("one", limit=2, before=second.next)
    assert [job.id for page in (first, second, last) for job in page.jobs] == mine[::-1]
    assert [job.id for job in store.page("one", limit=5).jobs] == mine[::-1]
    assert (last.next, store.page("one", limit=5).next, store.page("three").jobs) == (None, None, [])
    assert first.jobs[0].request == REQUEST


def test_a_page_goes_on_where_it_was_though_jobs_come_and_go(database: Database) -> None:
    store = database.open()
    mine = accepted(store, 4)
    first = store.page("one", limit=2)
    store.cancel(mine[2], tenant="one")
    store.forget(mine[2], tenant="one")
    accepted(store, 2)
    assert [job.id for job in store.page("one", limit=2, before=first.next).jobs] == mine[1::-1]


def test_jobs_are_listed_by_their_status(database: Database) -> None:
    store = database.open()
    mine = accepted(store, 5)
    lease = store.claim("w", models=MODELS)
    assert lease
    store.succeed(lease, RESULT)
    store.cancel(mine[3], tenant="one")
    for status, those in (
        (JobStatus.SUCCEEDED, [mine[0]]),
        (JobStatus.CANCELLED, [mine[3]]),
        (JobStatus.QUEUED, [mine[4], mine[2], mine[1]]),
        (JobStatus.FAILED, []),
    ):
        assert [job.id for job in store.page("one", status=status).jobs] == those
    page = store.page("one", status=JobStatus.QUEUED, limit=2)
    assert [job.id for job in page.jobs] == [mine[4], mine[2]]
    assert [job.id for job in store.page("one", status=JobStatus.QUEUED, limit=2, before=page.next).jobs] == [mine[1]]


def test_a_finished_job_is_forgotten_and_no_other(database: Database) -> None:
    store = database.open()
    (mine,) = accepted(store, 1)
    for tenant, refusal in (("one", JobUnfinished), ("two", JobNotFound)):
        with pytest.raises(refusal):
            store.forget(mine, tenant=tenant)
    lease = store.claim("w", models=MODELS)
    assert lease
    with pytest.raises(JobUnfinished):
        store.forget(mine, tenant="one")
    store.succeed(lease, RESULT)
    with pytest.raises(JobNotFound):
        store.forget(mine, tenant="two")
    store.forget(mine, tenant="one")
    assert store.page("one").jobs == []
    for ask in (store.get, store.forget):
        with pytest.raises(JobNotFound):
            ask(mine, tenant="one")


def test_the_place_in_the_queue(database: Database) -> None:
    store = database.open()
    mine = accepted(store, 3)
    accepted(store, 2, model="another")
    (other,) = accepted(store, 1, tenant="two")
    places = [store.ahead(store.find(job)) for job in (*mine, other)]
    if places[0] is None:  # the service that these jobs wait in does not tell
        assert set(places) == {None}
        return
    assert places == [0, 1, 3, 2], "tenants take turns"
    lease = store.claim("w", models=MODELS)
    assert lease
    assert lease.job.id == mine[0]
    assert [store.ahead(store.find(job)) for job in (*mine, other)] == [None, 0, 2, 1]
