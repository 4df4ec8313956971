"""The loop that owns the engine: at each step boundary it admits, drops and finishes; then it runs one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from darkroom.errors import DarkroomError, DeadlineExceeded, GenerationFailed
from runtime.arrays import Pixels
from runtime.denoising.batcher import Batcher
from runtime.denoising.original import Original
from runtime.denoising.runner import Runner, StepOutcome
from runtime.denoising.trajectory import Trajectory, TrajectoryStatus
from runtime.metrics import Metrics
from runtime.serving.admission import Admission
from runtime.serving.generation import Generation
from runtime.serving.request_cache import RequestCache
from runtime.serving.turns import ALONE, Seat


class Loop:
    """Brings accepted generations to decoded images, on one thread.

    `turn` is one boundary and one step, and is all that `run` repeats; tests call it step by step.
    """

    def __init__(
        self,
        admission: Admission,
        batcher: Batcher,
        runner: Runner,
        deliver: Callable[[Generation, list[Pixels]], None],
        metrics: Metrics,
        cache: RequestCache | None = None,
        *,
        hung_seconds: float,
        clock: Callable[[], float],
        seat: Seat = ALONE,
    ) -> None:
        """`deliver` takes all images of a request and must return at once; `clock` gives monotonic seconds.

        `cache` may let images enter at a later step; `seat` is where this loop waits for its turn at a shared device.
        """
        self._admission = admission
        self._batcher = batcher
        self._runner = runner
        self._deliver = deliver
        self._metrics = metrics
        self._cache = cache
        self._hung_seconds = hung_seconds
        self._clock = clock
        self._seat = seat
        self._log = structlog.get_logger()
        self._live: list[Generation] = []
        self._turn = 0
        self._last_batch: list[Trajectory] = []
        self._busy_since: float | None = None

    def run(self) -> None:
        """Turn until the admission is stopped."""
        while not self._admission.stopped:
            if not self._live:
                self._seat.rest()
                self._admission.wait_for_arrivals()
            try:
                self.turn()
            except Exception:  # a fault of ours: answer everyone rather than leave them waiting
                self._log.exception("turn failed")
                self._admission.give_up(DarkroomError())
        self._seat.rest()

    @property
    def hung(self) -> bool:
        """Whether the engine has been in one call for longer than it may; read from any thread."""
        since = self._busy_since
        return since is not None and self._clock() - since >= self._hung_seconds

    def watch(self) -> None:
        """The watchdog's look, to be called now and then from another thread.

        A hung engine's requests are answered, so that they are tried elsewhere; if the call ever returns, the loop
        drops them and goes on.
        """
        if self.hung:
            hung = GenerationFailed("The engine did not finish a step in time.")
            self._admission.give_up(hung, lambda generation: generation.needs_engine)

    def turn(self) -> bool:
        """One step boundary, then one step of one batch; False where there was nothing to step."""
        self._take_in()
        self._drop()
        if self._cache is not None:
            for generation in self._live:
                self._cache.boundary(generation)
        owners = {trajectory: generation for generation in self._live for trajectory in generation.trajectories}
        batch = self._batcher.pick([trajectory for trajectory in owners if trajectory.steps_left], self._turn)
        if not batch:
            self._seat.rest()
            return False
        self._turn += 1
        with self._seat.turn():
            batch = [trajectory for trajectory in batch if self._begin(owners[trajectory])]
            if batch:
                self._step(batch, owners)
            for trajectory in batch:
                if trajectory.status is TrajectoryStatus.DENOISED and not owners[trajectory].answered:
                    self._decode(trajectory, owners[trajectory])
        self._drop()
        return True

    # ---- the boundary -----------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        for generation in self._admission.take_arrivals():
            for trajectory in generation.trajectories:
                trajectory.last_turn = self._turn
            self._live.append(generation)

    def _drop(self) -> None:
        """Forget what has been answered, what is past its deadline, and what has been delivered."""
        now = self._clock()
        kept: list[Generation] = []
        for generation in self._live:
            if generation.deadline is not None and now >= generation.deadline:
                generation.fail(DeadlineExceeded())
            if generation.answered:
                for trajectory in generation.trajectories:
                    trajectory.end()
            elif generation.needs_engine:
                kept.append(generation)
        self._live = kept
        begun = [generation for generation in kept if generation.begun]
        self._metrics.queue_depth.set(len(kept) - len(begun))
        self._metrics.in_flight_rows.set(sum(t.rows for g in begun for t in g.trajectories if t.steps_left))

    def _begin(self, generation: Generation) -> bool:
        """Encode a request's prompts before its first step; False when it was answered, here or elsewhere."""
        if not generation.begun:
            generation.begun = True
            generation.stopwatch.begun = self._clock()
            self._metrics.queue_seconds.observe(generation.stopwatch.begun - generation.stopwatch.accepted)
            try:
                self._encode(generation)
            except DarkroomError as error:
                self._fail(generation, error)
        return not generation.answered

    # ---- the engine's work ------------------------------------------------------------------------------------

    def _encode(self, generation: Generation) -> None:
        (prompt, negative), request = generation.prompts, generation.request
        with self._engine_call():
            guided = any(trajectory.guided for trajectory in generation.trajectories)
            conditioning = self._runner.encode(
                prompt.ids,
                negative.ids if guided else None,
                request.width or 0,
                request.height or 0,
                request.guidance_scale or 0.0,
            )
            picture = generation.inputs.picture
            moments = None if picture is None else self._runner.encode_image(picture)
        generation.stopwatch.encode = self._clock() - generation.stopwatch.begun
        self._metrics.encode_seconds.observe(generation.stopwatch.encode)
        for trajectory in generation.trajectories:
            original = None
            if moments is not None:
                latents = moments[0] + moments[1] * trajectory.encoder_noise()
                original = Original(latents, generation.inputs.latent_mask)
            trajectory.begin(conditioning, original=original)
        if self._cache is not None:
            self._cache.begun(generation, conditioning["prompt_embeds"][-1:])

    def _step(self, batch: list[Trajectory], owners: dict[Trajectory, Generation]) -> None:
        rows, steps = sum(trajectory.rows for trajectory in batch), [trajectory.step for trajectory in batch]
        started = self._clock()
        with self._engine_call():
            outcome = self._runner.step(batch)
        self._record(batch, rows, steps, self._clock() - started, outcome)
        for trajectory in batch:
            trajectory.last_turn = self._turn
            if self._cache is not None and trajectory not in outcome.failures:
                self._cache.stepped(owners[trajectory], trajectory)
        for trajectory, error in outcome.failures.items():
            self._fail(owners[trajectory], error)
        for generation in dict.fromkeys(owners[trajectory] for trajectory in batch):
            if generation.answered:
                continue
            if not any(trajectory.steps_left for trajectory in generation.trajectories):
                generation.stopwatch.denoised = self._clock()
            if generation.listener is not None:
                generation.listener(generation.look())

    def _record(
        self, batch: list[Trajectory], rows: int, steps: list[int], seconds: float, outcome: StepOutcome
    ) -> None:
        self._admission.record_row_cost(seconds / rows)
        self._metrics.step_seconds.observe(seconds)
        self._metrics.batch_rows.observe(rows)
        self._metrics.row_steps.inc(rows)
        # A line for every step, but at the default level only where the batch's members changed.
        log = self._log.debug if batch == self._last_batch else self._log.info
        log("step", turn=self._turn, rows=rows, steps=steps, mixed=len(set(steps)) > 1, seconds=round(seconds, 4))
        self._last_batch = batch
        size = batch[0].size
        plain = not outcome.causes and not any(trajectory.controls for trajectory in batch)
        if plain and self._batcher.timed(size, rows, seconds):
            self._log.info("row cap", size=size, rows=self._batcher.row_cap(size))
        for cause in outcome.causes:
            self._log.warning("engine failed", rows=rows, exc_info=cause)
        if outcome.largest_refused:
            self._metrics.batch_splits.inc()
            self._batcher.too_many(size, outcome.largest_refused)

    def _decode(self, trajectory: Trajectory, generation: Generation) -> None:
        started = self._clock()
        try:
            with self._engine_call():
                pixels = self._runner.decode(trajectory.latents)
        except DarkroomError as error:
            self._fail(generation, error)
            return
        seconds = self._clock() - started
        generation.stopwatch.decode += seconds
        self._metrics.decode_seconds.observe(seconds)
        if self._cache is not None:
            self._cache.decoded(generation, trajectory)
        trajectory.end()
        images = generation.developed(trajectory.index, pixels)
        if images is not None:
            self._deliver(generation, images)

    def _fail(self, generation: Generation, error: DarkroomError) -> None:
        if error.__cause__ is not None:
            self._log.warning("engine failed", id=generation.id, exc_info=error.__cause__)
        generation.fail(error)

    @contextmanager
    def _engine_call(self) -> Iterator[None]:
        self._busy_since = self._clock()
        try:
            yield
        finally:
            self._busy_since = None
