"""BuildProgress: one line for every stage, and a bar while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console

_WIDTH = 34


class BuildProgress:
    """Writes to one console; on a terminal the bar of the running stage is drawn below the lines of finished ones."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def skipped(self, stage: str) -> None:
        self.console.print(f"{stage:{_WIDTH}} unchanged, skipped", highlight=False)

    def say(self, what: str) -> None:
        """A line about something that is not as whoever builds may think."""
        self.console.print(f"note: {what}", highlight=False, soft_wrap=True)

    @contextmanager
    def running(self, stage: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Yields the call that advances the bar by one of `total`; None: the bar only shows that work goes on."""
        columns = (
            progress.TextColumn(f"{stage:{_WIDTH}}"),
            progress.BarColumn(),
            *((progress.MofNCompleteColumn(),) if total else ()),
            progress.TimeElapsedColumn(),
        )
        start = time.perf_counter()
        with progress.Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as bar:
            task = bar.add_task(stage, total=total)
            yield lambda: bar.advance(task)
        self.console.print(f"{stage:{_WIDTH}} done in {time.perf_counter() - start:.1f} s", highlight=False)
