"""Each transition of the state machine, and what it says to do."""

from dataclasses import replace

import pytest

from darkroom.release.machine import (
    GRACE_SECONDS,
    MOST_PROOFS,
    PROOF_SECONDS,
    RETRY_SECONDS,
    SHIFT_SECONDS,
    Prove,
    Reweigh,
    Transition,
    Update,
    WritePointer,
    adopt,
    decide,
)
from darkroom.release.state import (
    UNPINNED,
    EndpointStatus,
    Phase,
    Proof,
    ProofVerdict,
    Release,
    Request,
    Seen,
    TrafficSplit,
)

OLD, NEW, OLDER = TrafficSplit("a" * 16), TrafficSplit("b" * 16), TrafficSplit("c" * 16)
SPLIT = TrafficSplit(OLD.version, NEW.version, 10)
THEN, NOW = 1000.0, 1100.0
SETTLED = Release(goal=OLD, proven=OLD, pointer=OLD.version, since=THEN, number=3, earlier=(OLDER.version,))
GOING = replace(SETTLED, goal=NEW, pointer=NEW.version, phase=Phase.PREPARING, number=4)
RETURNING = replace(GOING, goal=OLD, pointer=OLD.version, number=5, back=True, why="It drew nothing.", failed=NEW)


def seen(running=OLD, *, pointer=None, status=EndpointStatus.READY, now=NOW, **more) -> Seen:
    return Seen(now, pointer or OLD.version, status, running, **more)


def going(phase: Phase, release=GOING, **more) -> Release:
    return replace(release, phase=phase, **more)


def seen_new(running=OLD, **more) -> Seen:
    return seen(running, pointer=NEW.version, **more)


def rests(step: Transition, release: Release) -> bool:
    return step == Transition(release)


# ---- the first look -----------------------------------------------------------------------------------------------


def test_what_runs_when_first_looked_at_counts_as_proven():
    assert adopt(seen(TrafficSplit(UNPINNED))) == Release(goal=OLD, proven=OLD, pointer=OLD.version, since=NOW)
    assert adopt(seen(NEW)) == Release(goal=NEW, proven=NEW, pointer=NEW.version, since=NOW)


def test_an_endpoint_that_runs_another_version_than_the_pointer_names_is_released_to():
    release = adopt(seen(NEW))
    assert release is not None
    assert decide(release, seen(NEW)).after.goal == OLD


@pytest.mark.parametrize("look", [seen(None), seen(status=EndpointStatus.BUSY), seen(status=EndpointStatus.ABSENT)])
def test_nothing_is_taken_for_known_before_the_endpoint_is_ready(look):
    assert adopt(look) is None


# ---- what starts a release ----------------------------------------------------------------------------------------


def test_what_runs_and_was_proven_is_left_alone():
    assert rests(decide(SETTLED, seen()), SETTLED)
    assert rests(decide(SETTLED, seen(TrafficSplit(UNPINNED))), SETTLED)
    assert rests(decide(SETTLED, seen(status=EndpointStatus.BUSY, running=None)), SETTLED)


def test_a_moved_pointer_starts_a_release():
    step = decide(SETTLED, seen(pointer=NEW.version))
    assert step.action is None
    assert step.after == replace(GOING, since=NOW)


def test_a_pointer_moved_to_a_version_that_ran_before_goes_back():
    assert decide(SETTLED, seen(pointer=OLDER.version)).after.back


def test_a_pointer_of_our_own_writing_is_recognised():
    """A crash came between the writing and the memory of it."""
    asked = replace(GOING, pointer=OLD.version)
    assert decide(asked, seen_new()) == Transition(replace(asked, pointer=NEW.version))


def test_a_publication_during_a_release_takes_its_place():
    after = decide(going(Phase.SHIFTING), seen(pointer=OLDER.version, status=EndpointStatus.BUSY)).after
    assert (after.goal, after.proven, after.phase, after.number) == (OLDER, OLD, Phase.PREPARING, 5)


def test_a_request_starts_a_release_and_moves_the_pointer():
    request = Request(1, NEW)
    step = decide(SETTLED, seen(request=request))
    assert (step.after.goal, step.after.answered, step.after.phase) == (NEW, 1, Phase.PREPARING)
    step = decide(step.after, seen(request=request))
    assert step.action == WritePointer(NEW.version)
    assert step.after.pointer == NEW.version


def test_a_request_is_taken_up_once():
    answered = replace(SETTLED, answered=1)
    assert rests(decide(answered, seen(request=Request(1, NEW))), answered)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.SHIFTING, Phase.PROVING])
def test_a_request_for_what_is_on_its_way_changes_nothing(phase):
    release = going(phase)
    assert decide(release, seen_new(request=Request(1, NEW))) == Transition(replace(release, answered=1))


def test_a_request_restarts_what_is_stuck():
    release = going(Phase.STUCK, SETTLED, why="?")
    after = decide(release, seen(request=Request(1, OLD))).after
    assert (after.phase, after.why, after.number) == (Phase.PREPARING, "", 4)


def test_of_a_publication_and_a_request_the_request_has_the_last_word():
    request = Request(1, SPLIT)
    first = decide(SETTLED, seen_new(request=request)).after
    assert (first.goal, first.answered) == (NEW, 0)
    second = decide(first, seen_new(request=request)).after
    assert (second.goal, second.answered) == (SPLIT, 1)
    assert decide(second, seen_new(request=request)).action == WritePointer(OLD.version)


def test_an_endpoint_that_somebody_else_changed_is_brought_back():
    step = decide(SETTLED, seen(NEW))
    assert (step.after.phase, step.after.goal, step.after.number) == (Phase.PREPARING, OLD, 4)
    assert decide(SETTLED, seen(None)).after.phase is Phase.PREPARING


def test_a_split_that_a_change_of_the_stack_undid_is_made_again():
    split = replace(SETTLED, goal=SPLIT, proven=SPLIT)
    assert decide(split, seen(TrafficSplit(UNPINNED))).after.phase is Phase.PREPARING


# ---- telling the endpoint -----------------------------------------------------------------------------------------


def test_the_endpoint_is_told_with_care():
    step = decide(GOING, seen_new())
    assert step == Transition(replace(GOING, phase=Phase.SHIFTING, since=NOW), Update(NEW, careful=True))


def test_the_way_back_is_not_careful():
    """An alarm that rings already would end it at once."""
    assert decide(RETURNING, seen(NEW)).action == Update(OLD, careful=False)


def test_another_share_needs_no_new_instances():
    release = replace(GOING, goal=SPLIT, pointer=OLD.version)
    step = decide(release, seen(replace(SPLIT, percent=50)))
    assert step.action == Reweigh(SPLIT)
    assert step.after.phase is Phase.SHIFTING


def test_a_change_under_way_is_recognised():
    """A crash came between the telling and the memory of it."""
    look = seen_new(status=EndpointStatus.BUSY, coming=NEW)
    assert decide(GOING, look) == Transition(replace(GOING, phase=Phase.SHIFTING, since=NOW))


def test_a_change_that_is_done_already_is_recognised():
    assert decide(GOING, seen_new(NEW)).after.phase is Phase.PROVING


def test_another_change_is_waited_for():
    assert rests(decide(GOING, seen_new(status=EndpointStatus.BUSY, coming=OLDER)), GOING)


def test_an_endpoint_that_takes_no_change_ends_the_release():
    step = decide(GOING, seen_new(status=EndpointStatus.BUSY, now=THEN + SHIFT_SECONDS + 1))
    assert (step.after.goal, step.after.failed) == (OLD, NEW)
    assert step.after.why == "The endpoint did not take the change."


def test_a_bundle_that_cannot_be_served_never_reaches_the_endpoint():
    step = decide(GOING, seen_new(unfit="The manifest is damaged."))
    after = step.after
    assert (after.goal, after.why, after.failed, after.phase) == (OLD, "The manifest is damaged.", NEW, Phase.PREPARING)
    assert decide(after, seen_new()).action == WritePointer(OLD.version)


# ---- while traffic moves ------------------------------------------------------------------------------------------


def test_a_shift_takes_its_time():
    release = going(Phase.SHIFTING)
    assert rests(decide(release, seen_new(status=EndpointStatus.BUSY, coming=NEW)), release)


def test_a_shift_that_has_happened_is_proven():
    step = decide(going(Phase.SHIFTING), seen_new(NEW))
    assert step == Transition(going(Phase.PROVING, since=NOW))


def test_an_endpoint_that_does_not_show_the_change_yet_is_looked_at_again():
    release = going(Phase.SHIFTING)
    assert rests(decide(release, seen_new(now=THEN + GRACE_SECONDS - 1)), release)


def test_an_endpoint_that_went_back_by_itself_ends_the_release():
    after = decide(going(Phase.SHIFTING), seen_new(alarms=("darkroom-slow",))).after
    assert (after.goal, after.failed, after.back) == (OLD, NEW, True)
    assert after.why == "The endpoint went back by itself (darkroom-slow)."
    assert decide(replace(after, pointer=OLD.version), seen()).after.phase is Phase.PROVING


def test_a_shift_that_never_ends_calls_for_somebody():
    look = seen_new(status=EndpointStatus.BUSY, now=THEN + SHIFT_SECONDS + 1)
    assert decide(going(Phase.SHIFTING), look).after.phase is Phase.STUCK


# ---- the proof ----------------------------------------------------------------------------------------------------


def test_an_image_is_asked_of_what_runs():
    step = decide(going(Phase.PROVING), seen_new(NEW))
    assert step == Transition(going(Phase.PROVING, attempt=1), Prove(NEW, 4, 1, THEN))


def test_an_image_is_waited_for():
    release = going(Phase.PROVING, attempt=1)
    assert rests(decide(release, seen_new(NEW, proof=Proof(ProofVerdict.WAITING))), release)
    assert rests(decide(going(Phase.PROVING), seen_new(NEW, status=EndpointStatus.BUSY)), going(Phase.PROVING))


def test_a_good_image_settles_the_release():
    after = decide(going(Phase.PROVING, attempt=1), seen_new(NEW, proof=Proof(ProofVerdict.GOOD))).after
    assert (after.phase, after.goal, after.proven) == (Phase.SETTLED, NEW, NEW)
    assert after.earlier == (OLDER.version, OLD.version)


def test_a_failure_that_may_pass_is_given_another_attempt():
    release = going(Phase.PROVING, attempt=1)
    again = seen_new(NEW, proof=Proof(ProofVerdict.AGAIN, "overloaded"))
    assert decide(release, again).action == Prove(NEW, 4, 2, THEN)
    last = decide(replace(release, attempt=MOST_PROOFS), again).after
    assert (last.goal, last.why) == (OLD, "overloaded")


@pytest.mark.parametrize(
    ("proof", "now", "why"),
    [
        (Proof(ProofVerdict.BAD, "It drew nothing."), NOW, "It drew nothing."),
        (Proof(ProofVerdict.WAITING), THEN + PROOF_SECONDS + 1, "No image came of it in time."),
    ],
)
def test_without_a_good_image_it_goes_back(proof, now, why):
    after = decide(going(Phase.PROVING, attempt=1), seen_new(NEW, proof=proof, now=now)).after
    assert (after.goal, after.back, after.why, after.failed, after.phase) == (OLD, True, why, NEW, Phase.PREPARING)
    assert (after.number, after.attempt) == (5, 0)


def test_a_change_during_the_proof_begins_it_anew():
    assert decide(going(Phase.PROVING, attempt=1), seen_new(OLDER)).after.phase is Phase.PREPARING


def test_what_it_went_back_to_is_proven_too_and_the_reason_is_kept():
    release = going(Phase.PROVING, RETURNING, attempt=1)
    after = decide(release, seen(proof=Proof(ProofVerdict.GOOD))).after
    assert (after.phase, after.proven, after.earlier) == (Phase.SETTLED, OLD, (OLDER.version,))
    assert (after.why, after.failed) == ("It drew nothing.", NEW)


# ---- stuck --------------------------------------------------------------------------------------------------------


def test_where_the_way_back_fails_too_somebody_must_look():
    release = going(Phase.PROVING, RETURNING, attempt=1)
    after = decide(release, seen(proof=Proof(ProofVerdict.BAD, "Nor this one."))).after
    assert (after.phase, after.goal, after.why, after.failed) == (Phase.STUCK, OLD, "Nor this one.", NEW)


@pytest.mark.parametrize("status", [EndpointStatus.BROKEN, EndpointStatus.ABSENT])
@pytest.mark.parametrize("release", [SETTLED, going(Phase.SHIFTING, RETURNING)])
def test_an_endpoint_that_is_broken_or_gone_calls_for_somebody(release, status):
    step = decide(release, seen(None, status=status))
    assert step.after.phase is Phase.STUCK
    assert rests(decide(step.after, seen(None, status=status)), step.after)


def test_what_is_stuck_is_tried_again_after_a_while():
    release = going(Phase.STUCK, RETURNING)
    assert rests(decide(release, seen(now=THEN + RETRY_SECONDS - 1)), release)
    after = decide(release, seen(now=THEN + RETRY_SECONDS)).after
    assert (after.phase, after.number) == (Phase.PREPARING, RETURNING.number + 1)


# ---- where a rollback leads ---------------------------------------------------------------------------------------


def test_a_rollback_leads_to_the_version_before():
    assert SETTLED.rollback == OLDER
    assert replace(SETTLED, earlier=()).rollback is None


def test_a_rollback_of_a_release_under_way_leads_to_what_ran():
    assert GOING.rollback == OLD


def test_a_rollback_that_is_asked_for_twice_does_not_go_further():
    rolling = decide(SETTLED, seen(request=Request(1, OLDER))).after
    assert rolling.back
    assert rolling.rollback == OLDER


def test_after_a_rollback_the_version_that_was_left_is_forgotten():
    release = replace(SETTLED, goal=OLDER, pointer=OLDER.version, phase=Phase.PROVING, attempt=1, back=True)
    look = seen(OLDER, pointer=OLDER.version, proof=Proof(ProofVerdict.GOOD))
    assert decide(release, look).after.earlier == ()


def test_a_split_is_no_version_to_go_back_to():
    look = seen_new(NEW, proof=Proof(ProofVerdict.GOOD))
    release = going(Phase.PROVING, attempt=1, proven=SPLIT, earlier=(OLD.version,))
    assert decide(release, look).after.earlier == (OLD.version,)


def test_a_release_is_the_same_after_being_stored():
    for release in (SETTLED, RETURNING, replace(GOING, goal=SPLIT)):
        assert Release.from_json(release.to_json()) == release
