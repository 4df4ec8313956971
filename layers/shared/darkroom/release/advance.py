"""Carry a release out: look, decide, act, remember, until there is nothing to do before time has passed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from darkroom.release.machine import Action, Reweigh, Transition, Update, adopt, decide, refused
from darkroom.release.state import Release, Seen
from darkroom.release.storage import ReleaseStore

_MOST_STEPS = 20  # at one go; far more than lie between two waits


class World(Protocol):
    """A model's pointer, bundles and endpoint."""

    def see(self, release: Release | None) -> Seen:
        """How things are now; `release` says what is of interest."""

    def act(self, action: Action) -> None:
        """Do it; doing it again changes nothing. Raises: NotNow, ActionRefused."""


class NotNow(Exception):
    """It cannot be done at this moment; ask again later."""


class ActionRefused(Exception):
    """It cannot be done, however often it is asked; the message is for people."""


class Overtaken(Exception):
    """Somebody else carries the release out now; nothing more was written here."""


# Hears what was known, the step taken, and why it was refused.
Report = Callable[[Release, Transition, BaseException | None], None]


def advance(
    model: str, store: ReleaseStore, world: World, report: Report = lambda _release, _step, _refusal: None
) -> Release | None:
    """Bring the release as far as it comes now; None where there is no endpoint to speak of yet.

    Raises: Overtaken, and whatever the store and the world raise; calling again goes on from there.
    """
    hold = store.take(model)  # before reading: an earlier holder that wrote something in between can write no more
    for _ in range(_MOST_STEPS):
        stored = store.get(model)
        release = stored.release if stored else None
        seen = world.see(release)
        if release is None:
            release = adopt(seen)
            if release is None:
                return None
            if not store.save(hold, release):
                raise Overtaken
            continue
        step, refusal = decide(release, replace(seen, request=stored.request if stored else None)), None
        if step == Transition(release):
            return release
        if step.action is not None:
            if not store.held(hold):
                raise Overtaken
            try:
                world.act(step.action)
            except NotNow:
                return release
            except ActionRefused as refusing:
                refusal = refusing
                step = replace(step, after=refused(release, str(refusing), seen.now))
        if not store.save(hold, step.after):
            raise Overtaken
        report(release, step, refusal)
        release = step.after
        if isinstance(step.action, Update | Reweigh):
            return release  # it takes minutes, and may not show at once
    return release
