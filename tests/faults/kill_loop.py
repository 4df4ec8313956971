"""Two workers that are killed at named points of a job, again and again, until all jobs are done.

Run as a program of its own, because forking needs a process without threads: `kill_loop.py FOLDER JOBS KILLS`.
Workers share nothing but the job store and the object store. Each writes what it did to `ledger`, one whole line at a
time, for the test to read.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import NoReturn

from darkroom.contracts import GeneratedImage, GenerationRequest, GenerationResult, Job
from darkroom.jobs.sql import SqlJobStore
from darkroom.storage.directory import DirectoryStore

MODELS = ("crayon",)
LEASE_SECONDS = 0.3
CRASH_POINTS = ("after claim", "after generate", "mid-upload", "before ack")


def image(job: Job) -> bytes:
    """What stands for a generation: the same bytes for the same job, as with a fixed seed."""
    return random.Random(job.request.seed).randbytes(20_000)


def key(job: Job) -> str:
    return f"images/{job.id}/0.png"


def result(job: Job) -> GenerationResult:
    made = GeneratedImage(
        key=key(job), seed=7, width=8, height=8, content_type="image/png", size=len(image(job)), sha256="0" * 64
    )
    return GenerationResult(images=[made], seed=7, model="crayon", version="0" * 16, target="onnx-cpu")


def open_jobs(folder: Path) -> SqlJobStore:
    # Attempts are not what is tried here: an unlucky job may die more often than a patient operator would allow.
    return SqlJobStore(f"sqlite:///{folder}/jobs.db", max_attempts=1000, lease_seconds=LEASE_SECONDS)


class Worker:
    """Dies at `crash_point` of its `nth` job (counted from 1); without one it lives until all jobs have ended."""

    def __init__(self, folder: Path, crash_point: str | None, nth: int) -> None:
        self.jobs, self.objects = open_jobs(folder), DirectoryStore(folder / "objects")
        self.ledger = os.open(folder / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.crash_point, self.nth, self.claimed = crash_point, nth, 0

    def run(self) -> None:
        pause = threading.Event()
        while any(count for status, count in self.jobs.counts().items() if not status.finished):
            lease = self.jobs.claim(f"worker-{os.getpid()}", models=MODELS)
            if lease is None:
                pause.wait(0.01)
                continue
            self.claimed += 1
            self.reach("after claim")
            body = image(lease.job)
            self.note("generated", lease.job)
            self.reach("after generate")
            if self.dies_at("mid-upload"):
                os.fsync = self.die  # the bytes are in the temporary file and not yet under the key
            self.objects.put(key(lease.job), body)
            self.reach("before ack")
            if self.jobs.succeed(lease, result(lease.job)):
                self.note("acknowledged", lease.job)

    def dies_at(self, point: str) -> bool:
        return point == self.crash_point and self.claimed == self.nth

    def reach(self, point: str) -> None:
        if self.dies_at(point):
            self.die()

    def die(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def note(self, deed: str, job: Job) -> None:
        os.write(self.ledger, f"{deed} {job.id}\n".encode())


def run_two_at_a_time(folder: Path, plans: list[tuple[str | None, int]]) -> list[int]:
    """Fork a worker for each plan; returns how each ended: 0, or minus the signal that killed it."""
    endings: list[int] = []
    waiting, alive = iter(plans), 0
    while len(endings) < len(plans):
        while alive < 2 and (plan := next(waiting, None)):
            if not os.fork():
                live(folder, *plan)
            alive += 1
        _, status = os.wait()
        alive -= 1
        endings.append(os.waitstatus_to_exitcode(status))
    return endings


def live(folder: Path, crash_point: str | None, nth: int) -> NoReturn:
    status = 1
    try:
        Worker(folder, crash_point, nth).run()
        status = 0
    finally:
        os._exit(status)


def main(folder: Path, jobs: int, kills: int) -> None:
    with closing(open_jobs(folder)) as store:
        for number in range(jobs):
            request = GenerationRequest(prompt="a cat", seed=number)
            store.create("crayon", request, tenant="default", idempotency=None)
    chance, points = random.Random(7), cycle(CRASH_POINTS)
    killed = run_two_at_a_time(folder, [(next(points), chance.randint(1, 3)) for _ in range(kills)])
    survived = run_two_at_a_time(folder, [(None, 0), (None, 0)])
    print(json.dumps({"killed": killed, "survived": survived}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
