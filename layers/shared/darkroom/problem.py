"""A failure that a caller can see: its code, its HTTP status, whether a retry can help, and the form of the answer.

Details are written for strangers: no exception text, path or address ever goes into one. The answer's form is
`application/problem+json` (RFC 9457), made in one place: `DarkroomError.problem`.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel


class Problem(BaseModel, frozen=True, extra="forbid"):
    """One RFC 9457 problem, as answered to a caller and as stored with a failed job."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    field: str | None = None
    request_id: str | None = None
    retry_after: int | None = None


class DarkroomError(Exception):
    """Base of the tree. A subclass declares `code`, `status`, `title` and `retryable`; an instance adds the detail.

    `field` is the JSON pointer (RFC 6901) of the offending member; `retry_after` is in seconds.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong on our side"
    retryable: ClassVar[bool] = False
    _by_code: ClassVar[dict[str, type[DarkroomError]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" in cls.__dict__:
            DarkroomError._by_code[cls.code] = cls

    def __init__(self, detail: str = "", *, field: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.field = field
        self.retry_after = retry_after

    def problem(self, request_id: str | None = None) -> Problem:
        """This error as the body of an answer."""
        return Problem(
            type=f"urn:darkroom:problem:{self.code.replace('_', '-')}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            retryable=self.retryable,
            field=self.field,
            request_id=request_id,
            retry_after=self.retry_after,
        )

    @staticmethod
    def from_problem(problem: Problem) -> DarkroomError:
        """The error another process answered with; an unknown code becomes the base error."""
        kind = DarkroomError._by_code.get(problem.code, DarkroomError)
        return kind(problem.detail, field=problem.field, retry_after=problem.retry_after)
