"""Who is let in: the bounded queue in front of the engine, and the promise that whoever is let in gets an answer."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

import structlog

from darkroom.errors import DarkroomError, Draining, Overloaded
from runtime.metrics import Metrics
from runtime.serving.generation import Generation

_LONGEST_RETRY_AFTER = 120


class Admission:
    """Holds every accepted generation until it is answered. Its methods may be called from any thread."""

    def __init__(self, max_queue: int, metrics: Metrics, clock: Callable[[], float]) -> None:
        """`max_queue` bounds the generations accepted and not yet answered; `clock` gives monotonic seconds."""
        self._max_queue = max_queue
        self._metrics = metrics
        self._clock = clock
        self._log = structlog.get_logger()
        self._changed = threading.Condition()
        self._arrived: deque[Generation] = deque()
        self._unanswered: set[Generation] = set()
        self._draining = False
        self._stopped = False
        self._seconds_per_row = 0.0

    def submit(self, generation: Generation) -> None:
        """Accept a generation for the engine; from here on it is answered, whatever happens.

        Raises: Draining, Overloaded (with the seconds after which there should be room).
        """
        self.hold(generation)
        self.hand_over(generation)

    def check(self) -> None:
        """Raises as `submit` would at this moment: before images are fetched for nothing."""
        with self._changed:
            if self._draining:
                raise Draining
            if len(self._unanswered) >= self._max_queue:
                raise Overloaded(retry_after=self._retry_after())

    def hold(self, generation: Generation) -> None:
        """Accept a generation that needs the engine no more. Raises as `submit` does."""
        with self._changed:
            self.check()
            self._unanswered.add(generation)
            self._metrics.unanswered.set(len(self._unanswered))
        generation.answer.add_done_callback(lambda _: self._release(generation))

    def hand_over(self, generation: Generation) -> None:
        """Let the engine have a generation that is held."""
        with self._changed:
            self._arrived.append(generation)
            self._changed.notify_all()

    def drain(self) -> None:
        """Accept nothing more, and answer at once what has not begun, so that it is taken up elsewhere."""
        with self._changed:
            self._draining = True
        self.give_up(Draining(), lambda generation: not generation.begun)

    def give_up(self, error: DarkroomError, which: Callable[[Generation], bool] = lambda _: True) -> None:
        """Answer everything, or what `which` picks, with this error."""
        with self._changed:
            picked = [generation for generation in self._unanswered if which(generation)]
        for generation in picked:
            generation.fail(error)

    def wait_until_idle(self, seconds: float) -> bool:
        """Block until all is answered; False when that took longer than `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._unanswered, seconds)

    def stop(self) -> None:
        """Accept nothing more, and let go of who waits for arrivals."""
        with self._changed:
            self._draining = self._stopped = True
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        return self._stopped

    def wait_for_arrivals(self) -> None:
        """Block until there is something to take, or until stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._stopped)

    def take_arrivals(self) -> list[Generation]:
        """What was accepted since the last call, in order of arrival."""
        with self._changed:
            arrived = list(self._arrived)
            self._arrived.clear()
            return arrived

    def record_row_cost(self, seconds_per_row: float) -> None:
        """What a UNet row took in the last step; the moving average answers Retry-After."""
        before = self._seconds_per_row or seconds_per_row
        self._seconds_per_row = 0.9 * before + 0.1 * seconds_per_row

    def _release(self, generation: Generation) -> None:
        with self._changed:
            self._unanswered.remove(generation)
            self._metrics.unanswered.set(len(self._unanswered))
            self._changed.notify_all()
        error = generation.answer.exception()
        outcome = error.code if isinstance(error, DarkroomError) else "succeeded"
        seconds = self._clock() - generation.stopwatch.accepted
        self._metrics.requests.labels(outcome).inc()
        if error is None:
            self._metrics.request_seconds.observe(seconds)
        request = generation.request
        self._log.info(
            "answered",
            id=generation.id,
            tenant=generation.tenant,
            outcome=outcome,
            prompt_characters=len(request.prompt),
            images=request.num_images,
            steps=request.num_inference_steps,
            sampler=request.sampler,
            size=[request.width, request.height],
            seconds=round(seconds, 4),
        )

    def _retry_after(self) -> int:
        """Seconds the engine needs for one waiting request, on average, at the row cost of the last steps."""
        waiting = [t for generation in self._unanswered if generation.needs_engine for t in generation.trajectories]
        rows_each = sum(t.rows * t.steps_left for t in waiting) / len(self._unanswered)
        return min(_LONGEST_RETRY_AFTER, max(1, math.ceil(rows_each * self._seconds_per_row)))
