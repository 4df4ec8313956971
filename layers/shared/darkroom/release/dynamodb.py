"""DynamoReleaseStore: releases, what was requested of them, and their fence, in the table of scaling policies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

from darkroom.database.condition import ANYWAY, Condition, Hold
from darkroom.database.dynamodb import Item
from darkroom.database.records import Records, Values
from darkroom.errors import PreconditionFailed
from darkroom.release.state import Release, Request, TrafficSplit
from darkroom.release.storage import LoggedRequest, StoredRelease

T = TypeVar("T")


class DynamoReleaseStore:
    """A ReleaseStore in a table of `database.records.TABLE`. Safe to use from several threads and processes.

    `wall` (seconds since the epoch) dates requests.
    """

    def __init__(
        self, table: str, *, wall: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._records = Records(table, kind="release", audit="asked", counter="number", wall=wall, sleep=sleep)

    def close(self) -> None:
        self._records.close()

    def get(self, model: str) -> StoredRelease | None:
        item = self._records.get(model)
        return None if item is None else _stored(item)

    def ask(self, model: str, traffic: TrafficSplit, *, by: str, when: Condition = ANYWAY) -> StoredRelease:
        text = json.dumps(asdict(traffic))

        def decide(item: Item | None, _now: float) -> tuple[Values, Values]:
            before = StoredRelease(model) if item is None else _stored(item)
            if when.match is not None and before.etag not in when.match:
                raise PreconditionFailed("Somebody else has asked for something meanwhile; get it again.")
            return {"asked": text}, {"asked": text}

        return _stored(self._records.change(model, by, decide))

    def history(self, model: str) -> list[LoggedRequest]:
        lines = ((line, _read(_split, line["asked"])) for line in self._records.history(model))
        return [LoggedRequest(line["number"], line["at"], line["by"], traffic) for line, traffic in lines if traffic]

    # ---- what carrying it out does --------------------------------------------------------------------------------

    def take(self, model: str) -> Hold:
        return self._records.take(model)

    def held(self, hold: Hold) -> bool:
        return self._records.held(hold)

    def save(self, hold: Hold, release: Release) -> bool:
        return self._records.held(hold, "SET #release = :release", release=release.to_json())


def _stored(item: Item) -> StoredRelease:
    """What cannot be read is as if it were not there: the endpoint is looked at anew, and one may ask anew."""
    release = _read(Release.from_json, item.get("release"))
    traffic = _read(_split, item.get("asked"))
    return StoredRelease(item["entry"], release, Request(item["number"], traffic) if traffic else None)


def _split(text: str) -> TrafficSplit:
    return TrafficSplit(**json.loads(text))


def _read(how: Callable[[str], T], text: str | None) -> T | None:
    try:
        return None if text is None else how(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
