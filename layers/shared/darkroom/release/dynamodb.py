"""DynamoReleaseStore: releases, what was asked of them, and their fence, in the table of scaling policies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict

from darkroom.errors import JobStoreUnavailable, PreconditionFailed
from darkroom.jobs.table import Contended, Item, Refused, Table
from darkroom.release.state import Release, Request, Traffic
from darkroom.release.storage import Asked, StoredRelease
from darkroom.scaling.storage import ANYWAY, Condition, Hold

_TRIES, _PAUSE = 8, 0.02  # seconds, doubled each time: racing writers step aside for each other


class DynamoReleaseStore:
    """A ReleaseStore in a table of `scaling.storage.dynamodb.TABLE`: `kind` "release" with the model as `entry`, and
    `asked:{model}` with the number. Safe to use from several threads and processes.

    What is asked and how far it has come are attributes of their own, so neither writer overwrites the other. `wall`
    (seconds since the epoch) dates requests.
    """

    def __init__(
        self,
        table: str,
        *,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = Table(table)
        self._wall = wall
        self._sleep = sleep

    def close(self) -> None:
        self._table.close()

    def get(self, model: str) -> StoredRelease | None:
        item = self._table.get(_key(model))
        return None if item is None else _stored(item)

    def ask(self, model: str, traffic: Traffic, *, by: str, when: Condition = ANYWAY) -> StoredRelease:
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(_PAUSE * 2 ** (attempt - 1))
            before = self.get(model) or StoredRelease(model)
            if when.match is not None and before.etag not in when.match:
                raise PreconditionFailed("Somebody else has asked for something meanwhile; get it again.")
            try:
                request = self._write(model, traffic, by, before.request)
            except (Refused, Contended):  # another writer was faster: hold the condition against what it wrote
                continue
            return StoredRelease(model, before.release, request)
        raise JobStoreUnavailable

    def _write(self, model: str, traffic: Traffic, by: str, before: Request | None) -> Request:
        seen = before.number if before else 0
        text = json.dumps(asdict(traffic))
        request = Request(seen + 1, traffic)
        unchanged = "#number = :seen" if before else "attribute_not_exists(#number)"
        values: Item = {"number": request.number, "asked": text, "seen": seen}
        line: Item = {"kind": f"asked:{model}", "entry": f"{request.number:012d}", "number": request.number}
        self._table.write(
            [
                self._table.updating(_key(model), "SET #number = :number, #asked = :asked", unchanged, values),
                self._table.putting(
                    line | {"at": self._wall(), "by": by, "asked": text}, "attribute_not_exists(#entry)"
                ),
            ]
        )
        return request

    def history(self, model: str) -> list[Asked]:
        found = self._table.query("#kind = :kind", {"kind": f"asked:{model}"})
        return [Asked(item["number"], item["at"], item["by"], _traffic(item["asked"])) for item in found]

    # ---- what carrying it out does --------------------------------------------------------------------------------

    def take(self, model: str) -> Hold:
        return Hold(model, self._update(model, "ADD #token :one", "", one=1)["token"])

    def held(self, hold: Hold) -> bool:
        return self._while_held(hold, "SET #token = :token")

    def save(self, hold: Hold, release: Release) -> bool:
        return self._while_held(hold, "SET #release = :release", release=release.to_json())

    def _while_held(self, hold: Hold, change: str, **values: str) -> bool:
        try:
            self._update(hold.model, change, "#token = :token", token=hold.token, **values)
        except Refused:
            return False
        return True

    def _update(self, model: str, change: str, when: str, **values: str | int) -> Item:
        for attempt in range(_TRIES):
            try:
                return self._table.update(_key(model), change, when, values)
            except Contended:  # somebody asks for something at this moment
                self._sleep(_PAUSE * 2**attempt)
        raise JobStoreUnavailable


def _key(model: str) -> dict[str, str | int | float | bytes]:
    return {"kind": "release", "entry": model}


def _stored(item: Item) -> StoredRelease:
    release = Release.from_json(item["release"]) if "release" in item else None
    request = Request(item["number"], _traffic(item["asked"])) if "number" in item else None
    return StoredRelease(item["entry"], release, request)


def _traffic(text: str) -> Traffic:
    return Traffic(**json.loads(text))
