"""The error tree: every leaf knows its answer, and comes back from one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from darkroom.errors import DarkroomError, ObjectNotFound, Overloaded, Problem, StorageFull


def tree(kind: type[DarkroomError] = DarkroomError) -> Iterator[type[DarkroomError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == DarkroomError.__module__:
            yield from tree(below)


LEAVES = [kind for kind in tree() if "code" in kind.__dict__]


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in LEAVES]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.code)
def test_every_error_knows_its_answer(kind: type[DarkroomError]) -> None:
    problem = kind().problem("request-1")
    assert re.fullmatch(r"[a-z0-9_]+", problem.code)
    assert problem.type.endswith(":" + kind.code.replace("_", "-"))
    assert 400 <= problem.status <= 599
    assert problem.title == problem.detail == kind.title
    assert not problem.title.endswith(".")
    assert problem.request_id == "request-1"


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.code)
def test_an_error_survives_the_wire(kind: type[DarkroomError]) -> None:
    sent = kind("What happened.", field="/a", retry_after=3).problem()
    back = DarkroomError.from_problem(Problem.model_validate_json(sent.model_dump_json()))
    assert type(back) is kind
    assert back.problem() == sent


def test_an_unknown_code_becomes_the_base_error() -> None:
    told = Overloaded().problem().model_copy(update={"code": "of_a_later_version", "status": 418})
    back = DarkroomError.from_problem(told)
    assert type(back) is DarkroomError
    assert (back.status, back.detail) == (500, told.detail)


def test_families() -> None:
    assert ObjectNotFound().status == 404
    assert (StorageFull().status, StorageFull().retryable) == (503, True)
