"""What the SQL job store asks its table again and again."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Select, bindparam, func, select, tuple_

from darkroom.contracts import JobStatus
from darkroom.jobs.schema import jobs

QUEUED = jobs.c.status == JobStatus.QUEUED.value
UNFINISHED = [status.value for status in JobStatus if not status.finished]
_SIGHTS = select(jobs.c.id, jobs.c.model, jobs.c.token, jobs.c.beat)
RUNNING = _SIGHTS.where(jobs.c.status == JobStatus.RUNNING.value).order_by(jobs.c.seq)


def _one(what: Any, *where: ColumnElement[bool]) -> ScalarSelect[Any]:
    return select(what).select_from(jobs).where(*where).scalar_subquery()


_MODELS, _TENANTS = jobs.c.model == bindparam("of_model"), jobs.c.tenant == bindparam("of_tenant")
# What a job that is accepted finds, in one statement: how many jobs are `queued`, how many of them are its `tenant`'s,
# and in its model's queue the tags of what was begun last (`running`), of what is `next`, and of its tenant's `last`.
QUEUE = select(
    _one(func.count(), QUEUED).label("queued"),
    _one(func.count(), QUEUED, _TENANTS).label("tenant"),
    _one(func.max(jobs.c.tag), _MODELS, jobs.c.status == JobStatus.RUNNING.value).label("running"),
    _one(func.min(jobs.c.tag), _MODELS, QUEUED).label("next"),
    _one(func.max(jobs.c.tag), _MODELS, _TENANTS, jobs.c.status.in_(UNFINISHED)).label("last"),
)


def page(tenant: str, status: JobStatus | None, before: int | None, limit: int) -> Select[Any]:
    """A tenant's jobs, newest first, from before a number."""
    found = select(jobs).where(jobs.c.tenant == tenant).order_by(jobs.c.seq.desc()).limit(limit)
    if status is not None:
        found = found.where(jobs.c.status == status.value)
    return found if before is None else found.where(jobs.c.seq < before)


def ahead(model: str, tag: int, seq: int) -> Select[Any]:
    """How many queued jobs of a model have their turn before this one."""
    earlier = tuple_(jobs.c.tag, jobs.c.seq) < tuple_(tag, seq)
    return select(func.count()).select_from(jobs).where(jobs.c.model == model, QUEUED, earlier)
