"""The release's state machine: what is known and what is seen -> the next step. Pure; `advance` carries it out.

A step acts first and is remembered afterwards, so a crash in between repeats it: every action is one whose repetition
changes nothing, or which the next look at the endpoint shows to have been done. A release that fails goes back to what
was proven last, and the pointer with it; only where that fails too does it wait for a person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from darkroom.release.state import (
    MOST_EARLIER,
    UNPINNED,
    EndpointStatus,
    Phase,
    ProofVerdict,
    Release,
    Seen,
    TrafficSplit,
)

SHIFT_SECONDS = 3 * 3600.0  # a canary takes two hours at most; then something is wrong
PROOF_SECONDS = 30 * 60.0  # an instance may have to wake up for it
GRACE_SECONDS = 20.0  # the endpoint may not yet show what it was told
RETRY_SECONDS = 15 * 60.0  # between two attempts of a release that is stuck
MOST_PROOFS = 3


@dataclass(frozen=True)
class WritePointer:
    """Make current.json name this version."""

    version: str


@dataclass(frozen=True)
class Update:
    """Tell the endpoint to run this; `careful`: shift step by step, and go back by itself when an alarm rings."""

    traffic: TrafficSplit
    careful: bool


@dataclass(frozen=True)
class Reweigh:
    """Change how much the versions that run get."""

    traffic: TrafficSplit


@dataclass(frozen=True)
class Prove:
    """Ask an image of each version; this is attempt `attempt` for goal `number`, proven since `since`.

    All of them name the proof: a record that was lost would count from one again, and find an old answer.
    """

    traffic: TrafficSplit
    number: int
    attempt: int
    since: float


Action = WritePointer | Update | Reweigh | Prove


@dataclass(frozen=True)
class Transition:
    """First the action, then what is to be remembered. One with neither an action nor a change is rest."""

    after: Release
    action: Action | None = None


def adopt(seen: Seen) -> Release | None:
    """The first thing known of an endpoint: what it runs counts as proven. None: it cannot be said yet."""
    if seen.status is not EndpointStatus.READY or seen.running is None:
        return None
    running = seen.running if seen.running.version != UNPINNED else TrafficSplit(seen.pointer)
    return Release(goal=running, proven=running, pointer=running.version, since=seen.now)


def decide(release: Release, seen: Seen) -> Transition:
    """The next step. Publishing comes before a request, so that of both at once the request has the last word."""
    if seen.pointer != release.pointer:
        known = replace(release, pointer=seen.pointer)
        if seen.pointer == release.goal.version:  # our own writing, of which a crash lost the memory
            return Transition(known)
        return Transition(_begin(known, TrafficSplit(seen.pointer), seen.now))
    if seen.request is not None and seen.request.number > release.answered:
        return Transition(_asked(replace(release, answered=seen.request.number), seen.request.traffic, seen.now))
    if release.pointer != release.goal.version:
        return Transition(replace(release, pointer=release.goal.version), WritePointer(release.goal.version))
    if seen.status in (EndpointStatus.BROKEN, EndpointStatus.ABSENT) and release.phase is not Phase.STUCK:
        return Transition(_stuck(release, "The endpoint has failed or is gone; deploy the stack again.", seen.now))
    return _PHASES[release.phase](release, seen)


def refused(release: Release, why: str, now: float) -> Release:
    """What comes of an action that will never be done."""
    return _fail(release, why, now)


# ---- a phase each -------------------------------------------------------------------------------------------------


def _settled(release: Release, seen: Seen) -> Transition:
    if seen.status is EndpointStatus.READY and not _agrees(
        release, seen.running
    ):  # somebody else has changed the endpoint
        return Transition(_enter(replace(release, number=release.number + 1), Phase.PREPARING, seen.now))
    return Transition(release)


def _preparing(release: Release, seen: Seen) -> Transition:
    if seen.unfit and release.goal != release.proven:
        return Transition(_fail(release, seen.unfit, seen.now))
    if seen.status is EndpointStatus.BUSY and seen.coming == release.goal:
        return Transition(_enter(release, Phase.SHIFTING, seen.now))
    if seen.status is EndpointStatus.READY:
        if _agrees(release, seen.running):
            return Transition(_enter(release, Phase.PROVING, seen.now))
        running, goal = seen.running, release.goal
        shifting = _enter(release, Phase.SHIFTING, seen.now)
        if running is not None and running.beside and running.versions == goal.versions:
            return Transition(shifting, Reweigh(goal))
        if seen.now - release.since <= SHIFT_SECONDS:
            return Transition(shifting, Update(goal, careful=not release.back))
    if seen.now - release.since > SHIFT_SECONDS:
        return Transition(_fail(release, "The endpoint did not take the change.", seen.now))
    return Transition(release)


def _shifting(release: Release, seen: Seen) -> Transition:
    waited = seen.now - release.since
    if seen.status is EndpointStatus.BUSY:
        if waited > SHIFT_SECONDS:
            return Transition(_stuck(release, "The endpoint has been changing for hours.", seen.now))
        return Transition(release)
    if _agrees(release, seen.running):
        return Transition(_enter(release, Phase.PROVING, seen.now))
    if waited < GRACE_SECONDS:
        return Transition(release)
    rang = f" ({', '.join(seen.alarms)})" if seen.alarms else ""
    return Transition(_fail(release, f"The endpoint went back by itself{rang}.", seen.now))


def _proving(release: Release, seen: Seen) -> Transition:
    if seen.status is EndpointStatus.BUSY and seen.proof.verdict is ProofVerdict.UNSENT:
        return Transition(release)
    if seen.status is EndpointStatus.READY and not _agrees(release, seen.running):
        return Transition(_enter(release, Phase.PREPARING, seen.now))
    verdict, why = seen.proof.verdict, seen.proof.why
    if verdict is ProofVerdict.GOOD:
        return Transition(_settle(release, seen.now))
    late = seen.now - release.since > PROOF_SECONDS
    if verdict is ProofVerdict.BAD or late or (verdict is ProofVerdict.AGAIN and release.attempt >= MOST_PROOFS):
        return Transition(_fail(release, why or "No image came of it in time.", seen.now))
    if verdict is ProofVerdict.WAITING:
        return Transition(release)
    attempt = release.attempt + 1
    return Transition(replace(release, attempt=attempt), Prove(release.goal, release.number, attempt, release.since))


def _stuck_still(release: Release, seen: Seen) -> Transition:
    if seen.status is EndpointStatus.READY and seen.now - release.since >= RETRY_SECONDS:
        return Transition(_enter(replace(release, number=release.number + 1), Phase.PREPARING, seen.now))
    return Transition(release)


_PHASES = {
    Phase.SETTLED: _settled,
    Phase.PREPARING: _preparing,
    Phase.SHIFTING: _shifting,
    Phase.PROVING: _proving,
    Phase.STUCK: _stuck_still,
}


# ---- transitions --------------------------------------------------------------------------------------------------


def _agrees(release: Release, running: TrafficSplit | None) -> bool:
    """Whether the goal runs. What takes its version from the pointer has taken the one that was proven last."""
    if running is None or running.version != UNPINNED:
        return running == release.goal
    return replace(running, version=release.proven.version) == release.goal


def _enter(release: Release, phase: Phase, now: float) -> Release:
    return replace(release, phase=phase, since=now, attempt=0)


def _begin(release: Release, goal: TrafficSplit, now: float) -> Release:
    back = goal == release.proven or (goal.beside is None and goal.version in release.earlier)
    begun = replace(release, goal=goal, number=release.number + 1, back=back, why="", failed=None)
    return _enter(begun, Phase.PREPARING, now)


def _asked(release: Release, goal: TrafficSplit, now: float) -> Release:
    """What is already so, or on its way, is not begun again."""
    return release if goal == release.goal and release.phase is not Phase.STUCK else _begin(release, goal, now)


def _fail(release: Release, why: str, now: float) -> Release:
    if release.goal == release.proven:
        return _stuck(release, why, now)
    returning = _begin(release, release.proven, now)
    return replace(returning, why=why, failed=release.goal)


def _stuck(release: Release, why: str, now: float) -> Release:
    return _enter(replace(release, why=why, failed=release.failed or release.goal), Phase.STUCK, now)


def _settle(release: Release, now: float) -> Release:
    """What was whole before can be gone back to; a split is a step on the way from one version to another."""
    earlier, was, goal = release.earlier, release.proven, release.goal
    if goal != was and goal.beside is None and goal.version in earlier:
        earlier = earlier[: earlier.index(goal.version)]
    elif goal != was and was.beside is None:
        earlier = (*earlier, was.version)[-MOST_EARLIER:]
    return _enter(replace(release, proven=goal, earlier=earlier), Phase.SETTLED, now)
