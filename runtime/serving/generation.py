"""One accepted request on its way to its images, and the one answer it gets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

from darkroom.contracts import (
    CacheReport,
    GenerationRequest,
    GenerationResult,
    GenerationWarning,
    StoredImage,
    Timings,
)
from darkroom.errors import DarkroomError
from runtime.arrays import Floats, Pixels
from runtime.bundles.tokenizer import Tokens
from runtime.cache.latent_cache import Visit
from runtime.denoising.trajectory import Trajectory, TrajectoryStatus
from runtime.pictures.inputs import Inputs

NO_INPUTS = Inputs()


@dataclass(frozen=True, eq=False)
class Look:
    """How far a request is, after a step: steps done of all its images, and an image's denoised estimate so far."""

    step: int
    steps: int
    denoised: Floats | None


Listener = Callable[[Look], None]


@dataclass
class Stopwatch:
    """Monotonic instants and durations, in seconds, of one request."""

    accepted: float
    begun: float = 0.0
    denoised: float = 0.0
    encode: float = 0.0
    decode: float = 0.0

    def timings(self, now: float) -> Timings:
        upload = max(0.0, now - self.denoised - self.decode)
        denoise = max(0.0, self.denoised - self.begun - self.encode)
        spent = {
            "queue": self.begun - self.accepted,
            "encode": self.encode,
            "denoise": denoise,
            "decode": self.decode,
            "upload": upload,
            "total": now - self.accepted,
        }
        # A tenth of a millisecond is as much as these clocks can honestly say.
        return Timings(**{part: round(seconds, 4) for part, seconds in spent.items()})


class Generation:
    """A request, its trajectories, and a future that is answered exactly once, from whichever thread is first.

    Whoever gives it up (a caller who left, a deadline, the watchdog, a shutdown) just answers it; the engine thread
    drops answered generations at the next step boundary.
    """

    def __init__(
        self,
        invocation_id: str,
        tenant: str,
        request: GenerationRequest,
        trajectories: Sequence[Trajectory],
        prompts: tuple[Tokens, Tokens],
        *,
        inputs: Inputs = NO_INPUTS,
        accepted: float,
        deadline: float | None = None,
        warnings: Sequence[GenerationWarning] = (),
        listener: Listener | None = None,
    ) -> None:
        """`request` is resolved; `prompts` are the prompt's tokens and the negative prompt's; `inputs` its images.

        `deadline` and `accepted` are instants of the loop's clock, in seconds; `listener` is called from the engine
        thread after each step and must return at once.
        """
        self.id = invocation_id
        self.tenant = tenant
        self.request = request
        self.trajectories = list(trajectories)
        self.prompts = prompts
        self.inputs = inputs
        self.deadline = deadline
        self.warnings = list(warnings)
        self.listener = listener
        self.visit: Visit | None = None
        self.cached = CacheReport()
        self.stopwatch = Stopwatch(accepted)
        self.begun = False
        self.answer: Future[GenerationResult] = Future()
        self.answer.set_running_or_notify_cancel()  # from here on only `succeed` and `fail` end it
        self._developed: dict[int, Pixels] = {}
        self._stored: dict[int, StoredImage] = {}
        self._lock = threading.Lock()

    @property
    def answered(self) -> bool:
        return self.answer.done()

    @property
    def needs_engine(self) -> bool:
        """Whether an image of it is still to be made."""
        return any(trajectory.status is not TrajectoryStatus.ENDED for trajectory in self.trajectories)

    def succeed(self, result: GenerationResult) -> bool:
        """False when it was answered before."""
        try:
            self.answer.set_result(result)
        except InvalidStateError:
            return False
        return True

    def fail(self, error: DarkroomError) -> bool:
        """False when it was answered before."""
        try:
            self.answer.set_exception(error)
        except InvalidStateError:
            return False
        return True

    def skip_engine(self) -> None:
        """Its images are there already."""
        self.begun = True
        self.stopwatch.begun = self.stopwatch.denoised = self.stopwatch.accepted
        for trajectory in self.trajectories:
            trajectory.end()

    def look(self) -> Look:
        """Its progress; the estimate is that of the first image that is still being made, None where none is."""
        step = sum(trajectory.step for trajectory in self.trajectories)
        steps = sum(trajectory.table.steps for trajectory in self.trajectories)
        making = (
            t.denoised for t in self.trajectories if t.status in (TrajectoryStatus.STEPPING, TrajectoryStatus.DENOISED)
        )
        return Look(step, steps, next(making, None))

    def developed(self, index: int, pixels: Pixels) -> list[Pixels] | None:
        """Take a decoded image; all of them, in order, once none is missing."""
        self._developed[index] = self.inputs.finish(pixels)
        if len(self._developed) < len(self.trajectories):
            return None
        return [self._developed[index] for index in range(len(self.trajectories))]

    def stored(self, index: int, image: StoredImage) -> list[StoredImage] | None:
        """Take an uploaded image; all of them, the control images last, in order, once none is missing."""
        expected = len(self.trajectories) + len(self.inputs.controls)
        with self._lock:
            self._stored[index] = image
            return [self._stored[index] for index in range(expected)] if len(self._stored) == expected else None
