"""The pool follows the policy: windows by a clock that the test sets, zero and back, and no request that fails."""

import os
import signal
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.replicas.autoscaler import Clock
from tests.fakes.deployment import RUNTIME, running

START = datetime(2026, 11, 16, 8, 58, tzinfo=UTC)
PATH = "/v1/models/{}/scaling-policy"
WINDOW = {"min": 1, "max": 1, "windows": [{"name": "busy", "hours": "09:00-09:10", "min": 2, "max": 2}]}


SEVERAL_CORES = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one core cannot be divided"
)


@dataclass
class Hands:
    """A clock that only the test moves; both its faces go on together."""

    passed: timedelta = field(default_factory=timedelta)

    def move(self, **by):
        self.passed += timedelta(**by)

    @property
    def clock(self):
        return Clock(lambda: START + self.passed, lambda: 1000.0 + self.passed.total_seconds())


@pytest.fixture
def hands():
    return Hands()


def processes(deployment):
    return [replica.pid for replica in deployment.deployment.pool.replicas]


def gauges(deployment):
    lines = deployment.client.get("/metrics").text.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("darkroom_replicas{")}


def counts(deployment, ready):
    pool = deployment.deployment.pool
    return lambda: len(pool.members) == pool.ready_count == ready


def cores_of(deployment):
    """The cores of each replica that is ready: those that any of its threads may run on; of one that ends, none."""

    def cores(pid):
        try:
            return set().union(*(os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()))
        except OSError:
            return set()

    return [cores(replica.pid) for replica in deployment.deployment.pool.replicas if replica.readiness.ready]


def divided(deployment):
    """Whether two replicas have all cores between them, and none in common."""
    shares = cores_of(deployment)
    return len(shares) == 2 and set.union(*shares) == os.sched_getaffinity(0) and not set.intersection(*shares)


class Load(threading.Thread):
    """A caller who asks again as soon as there is an answer."""

    def __init__(self, deployment, model="crayon", **asked):
        super().__init__()
        self.deployment, self.model, self.body = deployment, model, asked
        self.enough = threading.Event()
        self.statuses = []

    def run(self):
        while not self.enough.is_set():
            answer = self.deployment.client.post(f"/v1/models/{self.model}:predict", json={"prompt": "a", **self.body})
            self.statuses.append(answer.status_code)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.enough.set()
        self.join()


def test_a_window_adds_a_replica_and_takes_it_back_and_no_request_fails(tmp_path, hands):
    with running(tmp_path, clock=hands.clock) as deployment, Load(deployment) as load:
        assert deployment.client.put(PATH.format("crayon"), json=WINDOW).status_code == 201
        asked = {"from": "2026-11-16T08:58", "to": "2026-11-16T10:00"}
        plan = deployment.client.get("/v1/models/crayon/scaling-plan", params=asked).json()
        assert [(one["at"][11:16], one["min"]) for one in plan["breakpoints"]] == [
            ("08:58", 1),
            ("09:00", 2),
            ("09:10", 1),
        ]
        deployment.until(lambda: len(load.statuses) > 5)
        assert counts(deployment, 1)()
        first = processes(deployment)
        hands.move(minutes=2)
        deployment.until(counts(deployment, 2))
        assert gauges(deployment) == {'darkroom_replicas{state="wanted"}': 2, 'darkroom_replicas{state="ready"}': 2}
        hands.move(minutes=10)
        deployment.until(counts(deployment, 1))
        assert len(first) == 1
        seen = len(load.statuses)
        deployment.until(lambda: len(load.statuses) > seen + 5)
    assert set(load.statuses) == {200}


def test_a_replica_that_leaves_finishes_its_work_first(tmp_path, hands):
    with running(tmp_path, clock=hands.clock, jobs_in_flight=1) as deployment:
        deployment.client.put(PATH.format("crayon"), json=WINDOW)
        hands.move(minutes=2)
        deployment.until(counts(deployment, 2))
        jobs = [deployment.submit("hold a dog") for _ in range(2)]
        deployment.until(lambda: len(list(deployment.directory.glob("held-*"))) == 2)  # one in each
        hands.move(minutes=10)
        pool = deployment.deployment.pool
        deployment.until(lambda: pool.wanted == 1)
        assert len(pool.members) == 2
        deployment.touch("go")
        assert [deployment.finished(job)["status"] for job in jobs] == ["succeeded"] * 2
        deployment.until(counts(deployment, 1))
        assert sorted(deployment.made()) == sorted(jobs)  # each was made once


@SEVERAL_CORES
def test_the_cores_are_divided_among_the_replicas_there_are(tmp_path, hands):
    every = os.sched_getaffinity(0)
    with running(tmp_path, clock=hands.clock) as deployment:
        assert cores_of(deployment) == [every]
        deployment.client.put(PATH.format("crayon"), json=WINDOW)
        hands.move(minutes=2)
        deployment.until(lambda: divided(deployment))
        survivor, killed = deployment.deployment.pool.replicas
        os.kill(killed.pid, signal.SIGKILL)
        deployment.until(lambda: cores_of(deployment) == [every])
        deployment.until(lambda: divided(deployment))
        hands.move(minutes=10)
        deployment.until(lambda: cores_of(deployment) == [every])
        assert survivor.restarts == 0


def test_zero_and_back_and_ping_stays_true(tmp_path, hands):
    with running(tmp_path, clock=hands.clock) as deployment:
        deployment.client.put(PATH.format("crayon"), json={"min": 0, "max": 2, "scale_to_zero_after": "20s"})
        assert deployment.predict("a dog").status_code == 200
        pool, autoscaler = deployment.deployment.pool, deployment.deployment.autoscaler
        deployment.until(lambda: autoscaler.state is not None)
        hands.move(seconds=15)
        deployment.until(lambda: autoscaler.state.demands[-1][0] == 1015.0)
        assert pool.wanted == 1
        hands.move(seconds=10)
        deployment.until(lambda: not processes(deployment))
        assert deployment.client.get("/ping").json() == {"status": "ready"}
        assert deployment.predict("a cat").status_code == 200
        assert pool.wanted == 1


def test_a_stop_ends_every_process_and_ping_says_so(tmp_path, hands):
    with running(tmp_path, clock=hands.clock) as deployment:
        stop = {"min": 1, "max": 2, "stop_at": "2026-11-16T09:00"}
        deployment.client.put(PATH.format("crayon"), json=stop)
        hands.move(minutes=2)
        deployment.until(lambda: not processes(deployment))
        asked = deployment.client.get("/ping")
        assert (asked.status_code, asked.json()) == (503, {"status": "stopped"})
        deployment.client.put(PATH.format("crayon"), json={"min": 1, "max": 2})
        deployment.until(counts(deployment, 1))


def test_without_a_policy_the_setting_holds_and_comes_back(tmp_path, hands):
    with running(tmp_path, clock=hands.clock, runtimes=2) as deployment:
        deployment.until(counts(deployment, 2))
        deployment.client.put(PATH.format("crayon"), json={"min": 1, "max": 1})
        deployment.until(counts(deployment, 1))
        assert deployment.client.delete(PATH.format("crayon")).status_code == 204
        deployment.until(counts(deployment, 2))


def test_rows_78_and_79_a_refused_policy_leaves_the_pool_alone(tmp_path, hands):
    with running(tmp_path, clock=hands.clock) as deployment:
        deployment.client.put(PATH.format("crayon"), json={"min": 2, "max": 2})
        deployment.until(counts(deployment, 2))
        assert deployment.client.put(PATH.format("crayon"), json={"min": 3, "max": 1}).status_code == 422
        assert deployment.client.get(PATH.format("crayon")).json() == {"min": 2, "max": 2}
        assert counts(deployment, 2)()


def test_the_real_runtime_wakes_from_zero_and_follows_a_window(tmp_path, tiny_store, hands):
    small = {"num_inference_steps": 2}
    asked = {"program": RUNTIME, "bundle_store": tiny_store, "default_model": "tiny", "clock": hands.clock}
    with running(tmp_path, **asked) as deployment:
        path = PATH.format("tiny")
        policy = {**WINDOW, "min": 0, "scale_to_zero_after": "20s"}
        assert deployment.client.put(path, json=policy).status_code == 201
        autoscaler = deployment.deployment.autoscaler
        deployment.until(lambda: autoscaler.state is not None)  # idleness counts from here
        hands.move(seconds=60)
        deployment.until(lambda: not processes(deployment))
        answer = deployment.client.post("/v1/models/tiny:predict", json={"prompt": "a dog", **small})
        assert answer.status_code == 200, answer.text
        assert deployment.client.get(answer.json()["image"]).content.startswith(b"\x89PNG")
        with Load(deployment, "tiny", **small) as load:
            hands.move(seconds=60)
            deployment.until(counts(deployment, 2))
            seen = len(load.statuses)
            deployment.until(lambda: len(load.statuses) > seen + 4)  # OpenVINO's threads stay where they were put
            deployment.until(lambda: len(os.sched_getaffinity(0)) < 2 or divided(deployment))
            hands.move(minutes=10)
            deployment.until(counts(deployment, 1))
        assert set(load.statuses) == {200}


def test_a_policy_for_more_replicas_than_fit_starts_none_of_them(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        most = deployment.deployment.pool.most()
        answer = deployment.client.put(PATH.format("crayon"), json={"min": 1000, "max": 1000})
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid_policy", "/max")
        assert f"at most {most} replicas" in answer.json()["detail"]
        assert deployment.client.get(PATH.format("crayon")).status_code == 404
        assert deployment.deployment.pool.wanted == 1
