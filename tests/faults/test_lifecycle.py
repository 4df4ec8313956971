"""Rows 53 to 72, as far as they concern the whole deployment: connections, cancellation, load, death and shutdown."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.deployment import Running, running

PREDICT = b"POST /v1/models/crayon:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, max_wait_seconds=900) as started:
        yield started


def held(deployment: Running) -> str:
    """The job that the fake runtime holds."""
    (file,) = deployment.until(lambda: list(deployment.directory.glob("held-*")))
    return str(file.name.removeprefix("held-"))


def ask_and_leave(deployment: Running, *headers: bytes) -> str:
    """Send a predict, wait until it runs, close the connection."""
    body = b'{"prompt": "hold a dog", "num_inference_steps": 50}'
    lines = [*headers, b"Content-Length: %d" % len(body)]
    with socket.create_connection(("127.0.0.1", deployment.port)) as connection:
        connection.sendall(PREDICT + b"\r\n".join(lines) + b"\r\n\r\n" + body)
        return held(deployment)


def test_row_52_two_ways_to_say_how_long_a_body_is(deployment: Running) -> None:
    answer = deployment.exchange(PREDICT + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"malformed_request"' in answer
    assert b"\r\nconnection: close\r\n" in answer


def test_row_53_a_client_who_waits_and_leaves_takes_the_job_along(deployment: Running) -> None:
    job = ask_and_leave(deployment)
    deployment.until(lambda: deployment.exists(f"gone-{job}"))  # the runtime saw the stream close
    deployment.until(lambda: deployment.job(job)["status"] == "cancelled")
    deployment.touch("go")
    assert deployment.predict("a dog").status_code == 200
    assert job not in deployment.made()


def test_row_53_a_client_who_asked_for_a_job_may_leave(deployment: Running) -> None:
    job = ask_and_leave(deployment, b"Prefer: respond-async, wait=600")
    deployment.touch("go")
    assert deployment.finished(job)["status"] == "succeeded"
    assert deployment.made().count(job) == 1


def test_row_53_a_reader_of_events_may_leave(deployment: Running) -> None:
    job = deployment.submit("hold a dog")
    with deployment.client.stream("GET", f"/v1/jobs/{job}/events") as stream:
        assert next(stream.iter_lines())
    deployment.touch("go")
    assert deployment.finished(job)["status"] == "succeeded"


def test_row_54_cancel_a_running_job(deployment: Running) -> None:
    job = deployment.submit("hold a dog")
    held(deployment)
    answer = deployment.client.delete(f"/v1/jobs/{job}")
    assert answer.status_code == 202
    assert answer.json()["status"] == "cancelled"
    deployment.until(lambda: deployment.exists(f"gone-{job}"))
    deployment.until(lambda: deployment.deployment.pool.members[0].dispatcher.in_flight == 0)
    told = deployment.finished(job)
    assert (told["status"], told["error"]["code"]) == ("cancelled", "job_cancelled")
    assert job not in deployment.made()


def test_row_54_cancel_a_queued_job(tmp_path: Path) -> None:
    with running(tmp_path, jobs_in_flight=1) as deployment:
        running_job = deployment.submit("hold a dog")
        held(deployment)
        queued = deployment.submit("a cat")
        answer = deployment.client.delete(f"/v1/jobs/{queued}")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
        deployment.touch("go")
        assert deployment.finished(running_job)["status"] == "succeeded"
        assert queued not in deployment.made()


def test_row_54_cancel_a_finished_job(deployment: Running) -> None:
    job = deployment.predict("a dog").json()["id"]
    answer = deployment.client.post(f"/v1/jobs/{job}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_finished")
    assert deployment.job(job)["status"] == "succeeded"


def test_row_54_delete_a_finished_job(deployment: Running) -> None:
    told = deployment.predict("a dog", num_images=2).json()
    path = f"/v1/jobs/{told['id']}"
    assert deployment.client.get(told["images"][1]).status_code == 200
    assert deployment.client.delete(path).status_code == 204
    assert {deployment.client.get(url).status_code for url in told["images"]} == {404}
    assert deployment.client.get(path).json()["code"] == "job_not_found"
    assert deployment.client.delete(path).json()["code"] == "job_not_found"
    assert list(deployment.deployment.images.keys(f"images/{told['id']}/")) == []


def test_row_54_who_waits_for_a_job_that_is_cancelled(deployment: Running) -> None:
    body = b'{"prompt": "hold a dog"}'
    with socket.create_connection(("127.0.0.1", deployment.port), timeout=60) as connection:
        connection.sendall(PREDICT + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert deployment.client.delete(f"/v1/jobs/{held(deployment)}").status_code == 202
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert b'"code":"job_cancelled"' in answer


def test_row_55_the_deadline_passes_in_the_queue(tmp_path: Path) -> None:
    with running(tmp_path, job_seconds=0.001) as deployment:
        answer = deployment.predict("a dog", headers={"Prefer": "wait=60"})
        told = deployment.finished(answer.json()["id"]) if answer.status_code == 202 else {"error": answer.json()}
        assert (told["error"]["code"], told["error"]["status"]) == ("deadline_exceeded", 504)
        assert not deployment.made()


def test_row_56_the_queue_is_full(tmp_path: Path) -> None:
    with running(tmp_path, jobs_in_flight=1, max_queued_jobs=2) as deployment:
        jobs = [deployment.submit("hold a dog")]
        held(deployment)
        jobs += [deployment.submit("a cat") for _ in range(2)]
        refused = deployment.predict("one too many")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.json()["retryable"] is True
        assert int(refused.headers["retry-after"]) > 0
        deployment.touch("go")
        assert [deployment.finished(job)["status"] for job in jobs] == ["succeeded"] * 3


def test_row_56_a_runtime_that_is_full_costs_no_attempt(tmp_path: Path) -> None:
    with running(tmp_path, max_attempts=1) as deployment:
        job = deployment.submit("busy")
        deployment.until(lambda: deployment.exists("turned-away"))
        deployment.touch("room")
        assert deployment.finished(job)["status"] == "succeeded"


def test_row_58_the_runtime_is_killed_under_load(deployment: Running) -> None:
    first = [deployment.submit("hold a dog", seed=seed) for seed in range(6)]
    deployment.until(lambda: len(list(deployment.directory.glob("held-*"))) == 6)
    killed = deployment.deployment.pool.replicas[0].pid
    assert killed
    os.kill(killed, signal.SIGKILL)
    second = [deployment.submit("a cat", seed=seed) for seed in range(4)]
    deployment.touch("go")
    told = [deployment.finished(job) for job in first + second]
    assert [job["status"] for job in told] == ["succeeded"] * 10
    assert [job["seed"] for job in told] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert sorted(deployment.made()) == sorted(first + second)
    assert deployment.deployment.pool.replicas[0].pid != killed


def test_row_58_the_runtime_is_killed_before_it_was_ever_ready(tmp_path: Path) -> None:
    (tmp_path / "steering").mkdir()
    (tmp_path / "steering" / "hold-start").touch()
    with running(tmp_path, until_ready=False) as deployment:
        job = deployment.submit("a dog")
        os.kill(deployment.pid, signal.SIGKILL)
        deployment.until(lambda: deployment.deployment.pool.replicas[0].restarts)
        (deployment.directory / "hold-start").unlink()
        assert deployment.finished(job)["status"] == "succeeded"
        assert deployment.made() == [job]


def test_row_58_one_of_two_runtimes_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, runtimes=2, jobs_in_flight=1) as deployment:
        replicas = deployment.deployment.pool.replicas
        deployment.until(lambda: all(replica.readiness.ready for replica in replicas))
        jobs = [deployment.submit("hold a dog") for _ in range(2)]
        deployment.until(lambda: len(list(deployment.directory.glob("held-*"))) == 2)  # one in each
        assert replicas[1].pid
        os.kill(replicas[1].pid, signal.SIGKILL)
        deployment.until(lambda: not replicas[1].readiness.ready)
        assert deployment.client.get("/ping").status_code == 200
        deployment.touch("go")
        assert [deployment.finished(job)["status"] for job in jobs] == ["succeeded"] * 2
        assert sorted(deployment.made()) == sorted(jobs)


def test_row_60_a_request_that_kills_its_runtime_ends_alone(tmp_path: Path) -> None:
    with running(tmp_path, max_attempts=2) as deployment:
        neighbours = [deployment.submit("hold a dog", seed=seed) for seed in range(3)]
        deployment.until(lambda: len(list(deployment.directory.glob("held-*"))) == 3)
        poison = deployment.submit("crash")
        deployment.until(lambda: deployment.deployment.pool.replicas[0].restarts)
        deployment.touch("go")
        told = deployment.finished(poison)
        assert (told["status"], told["error"]["code"]) == ("failed", "poisoned")
        assert [deployment.finished(job)["status"] for job in neighbours] == ["succeeded"] * 3
        assert sorted(deployment.made()) == sorted(neighbours)


def test_row_71_sigterm_during_generation_finishes_it(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        job = deployment.submit("hold a dog")
        held(deployment)
        deployment.stop()
        deployment.until(lambda: deployment.client.get("/ping").status_code == 503)
        assert deployment.client.get("/ping").json() == {"status": "draining"}
        refused = deployment.predict("a cat")
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        deployment.touch("go")
    with running(tmp_path) as restarted:
        assert restarted.job(job)["status"] == "succeeded"
        assert restarted.made().count(job) == 1


def test_row_72_a_second_sigterm_stops_at_once_and_loses_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        job = deployment.submit("hold a dog")
        held(deployment)
        deployment.stop()
        deployment.stop()
        deployment.until(lambda: not deployment.thread.is_alive())  # although the job is still held
    with running(tmp_path) as restarted:
        assert restarted.finished(job)["status"] == "succeeded"
        assert restarted.made().count(job) == 1
