"""What every trainer does: steps with a rate and randomness of their own, averaged weights, a state file."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm  # type: ignore[import-untyped]

from crayon.training.optimizers import set_learning_rate


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(ABC):
    """How long and how fast any module is trained."""

    steps: int
    learning_rate: float
    batch: int
    average_decay: float
    save_every: int
    seed: int

    @abstractmethod
    def rate(self, step: int) -> float:
        """The learning rate of `step`."""


class Trainer(ABC):
    """Trains one module; `run` goes from where the state file stands to the end."""

    def __init__(
        self,
        name: str,
        settings: TrainingSettings,
        module: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        state_file: Path,
    ) -> None:
        """The module is on its device already; `average` has the mean of its weights over the last steps."""
        self.average = AveragedModel(module, multi_avg_fn=_moving_average(settings.average_decay))
        self.step = 0
        self._name = name
        self._settings = settings
        self._module = module
        self._optimizers = optimizers
        self._state_file = state_file
        if state_file.exists():
            self._load()

    @abstractmethod
    def backward(self, generator: torch.Generator) -> float:
        """Adds up the gradients of step number `self.step`; returns its loss. `generator` is seeded for this step."""

    def train_step(self) -> float:
        """One step; returns its loss."""
        settings = self._settings
        for optimizer in self._optimizers:
            set_learning_rate(optimizer, settings.rate(self.step))
        self._module.zero_grad(set_to_none=True)
        loss = self.backward(torch.Generator().manual_seed(step_seed(settings.seed, self.step)))
        nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        self.average.update_parameters(self._module)
        return loss

    def run(self, on_save: Callable[[nn.Module], None] | None = None) -> None:
        """Trains to the end; `on_save` gets the averaged module at every save."""
        settings, smooth = self._settings, 0.0
        with tqdm(total=settings.steps, initial=self.step, desc=self._name, mininterval=10) as bar:
            while self.step < settings.steps:
                loss = self.train_step()
                smooth = 0.98 * smooth + 0.02 * loss if smooth else loss
                bar.update()
                bar.set_postfix(loss=f"{smooth:.5f}", refresh=False)
                if self.step % settings.save_every == 0 or self.step == settings.steps:
                    self.save()
                    if on_save is not None:
                        on_save(self.average.module)

    def save(self) -> None:
        """Writes everything the next step depends on; a crash while writing leaves the former file."""
        state = {
            "step": self.step,
            "module": self._module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "average": self.average.state_dict(),
        }
        self._state_file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._state_file.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.replace(self._state_file)

    def _load(self) -> None:
        device = next(self._module.parameters()).device
        state: dict[str, Any] = torch.load(self._state_file, map_location=device, weights_only=True)
        self._module.load_state_dict(state["module"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.average.load_state_dict(state["average"])
        self.step = state["step"]


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's randomness: a resumed run draws what an uninterrupted one would have drawn."""
    return seed * 1_000_003 + step


def _moving_average(decay: float) -> Callable[..., None]:
    """An exponential average whose decay grows to `decay`, so that early steps are soon forgotten."""

    @torch.no_grad()
    def update(averages: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averages, current, 1 - keep)

    return update
