"""One DynamoDB table: plain values in and out, conditional writes, and its failures in our words."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from darkroom.errors import JobStoreUnavailable
from darkroom.retry import Retry

T = TypeVar("T")
Value = str | int | float | bytes
Item = dict[str, Any]
_NAMES, _VALUES = re.compile(r"#(\w+)"), re.compile(r":(\w+)")
_FAILED = {"ConditionalCheckFailedException", "ConditionalCheckFailed"}
_CONTENDED = {"TransactionConflictException", "TransactionConflict", "TransactionInProgressException"}
_RACES = Retry(tries=8, pause=0.02)  # racing writers step aside for each other


class ConditionFailed(Exception):
    """The condition of a write does not hold; nothing was written."""


class Contended(Exception):
    """Another transaction was writing the same item; nothing was written, and it may be tried again."""


def contested(
    attempt: Callable[[], T],
    sleep: Callable[[float], None] = time.sleep,
    on: type[Exception] | tuple[type[Exception], ...] = (ConditionFailed, Contended),
) -> T:
    """Try again while other writers are faster, as `on` shows. Raises: JobStoreUnavailable where they always are."""
    try:
        return _RACES.call(attempt, on=on, sleep=sleep)
    except on as lost:
        raise JobStoreUnavailable from lost


def recognised(write: Callable[[], T], written: Callable[[], T | None]) -> T:
    """Make a conditional write; where it fails, `written` looks whether it was made after all.

    The table may write and its answer be lost; then botocore's next try meets what the one before has written.
    """
    try:
        return write()
    except (ConditionFailed, Contended, JobStoreUnavailable):
        if (earlier := written()) is None:
            raise
        return earlier


class Table:
    """Safe to use from several threads. boto3 is imported, and configured by its own variables, on the first call.

    Expressions name attributes as `#name` and values as `:name`; only those that occur are sent. A value None is left
    out of an item. Every method raises JobStoreUnavailable where the table does not answer or is not there.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._connected: Any = None
        self._connecting = threading.Lock()

    def get(self, key: Mapping[str, Value]) -> Item | None:
        """The newest state of an item."""
        with _translated():
            response = self._client.get_item(TableName=self.name, Key=_attributes(key), ConsistentRead=True)
        return _plain(response["Item"]) if "Item" in response else None

    def update(self, key: Mapping[str, Value], change: str, when: str, values: Mapping[str, Value]) -> Item:
        """Change one item if `when` holds, and give it as it is then. Raises: ConditionFailed, Contended."""
        with _translated():
            update = self.updating(key, change, when, values)["Update"]
            response = self._client.update_item(**update, ReturnValues="ALL_NEW")
        return _plain(response["Attributes"])

    def write(self, writes: Sequence[Item]) -> None:
        """All of these writes or none; each was made by `putting` or `updating`. Raises: ConditionFailed, Contended."""
        with _translated():
            if len(writes) == 1 and "Put" in writes[0]:  # half the price of a transaction of one
                self._client.put_item(**writes[0]["Put"])
            else:
                self._client.transact_write_items(TransactItems=list(writes))

    def putting(self, item: Mapping[str, Value | None], when: str = "", **values: Value) -> Item:
        """A write of a whole item, for `write`."""
        condition = {"ConditionExpression": when, **_placeholders(when, values)} if when else {}
        return {"Put": {"TableName": self.name, "Item": _attributes(item), **condition}}

    def updating(self, key: Mapping[str, Value], change: str, when: str, values: Mapping[str, Value]) -> Item:
        """A change of one item, for `write`."""
        arguments = {"UpdateExpression": change} | ({"ConditionExpression": when} if when else {})
        arguments |= _placeholders(f"{change} {when}", values)
        return {"Update": {"TableName": self.name, "Key": _attributes(key), **arguments}}

    def delete(self, key: Mapping[str, Value], when: str, **values: Value) -> None:
        """Raises: ConditionFailed, Contended."""
        with _translated():
            self._client.delete_item(
                TableName=self.name, Key=_attributes(key), ConditionExpression=when, **_placeholders(when, values)
            )

    def query(
        self,
        which: str,
        values: Mapping[str, Value],
        *,
        index: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Item]:
        """The items under one key, in the order of the range key or against it; an index is read as of a moment ago."""
        left = limit
        order = {"ScanIndexForward": False} if newest_first else {}
        for page in self._pages(which, values, index, order | ({} if limit is None else {"Limit": limit})):
            for item in page["Items"]:
                if left == 0:
                    return
                left = None if left is None else left - 1
                yield _plain(item)

    def count(self, which: str, values: Mapping[str, Value], *, index: str, up_to: int | None = None) -> int:
        """How many items are under one key; counting stops at `up_to`."""
        counted = 0
        for page in self._pages(which, values, index, {"Select": "COUNT"} | ({"Limit": up_to} if up_to else {})):
            counted += page["Count"]
            if up_to and counted >= up_to:
                break
        return counted

    def close(self) -> None:
        """Let go of the connections; they are made again if the table is used again."""
        with self._connecting:
            if self._connected is not None:
                self._connected.close()
                self._connected = None

    def _pages(
        self, which: str, values: Mapping[str, Value], index: str | None, arguments: Mapping[str, Any]
    ) -> Iterator[Item]:
        place = {"ConsistentRead": True} if index is None else {"IndexName": index}
        start: Item = {}
        while True:
            with _translated():
                page = self._client.query(
                    TableName=self.name,
                    KeyConditionExpression=which,
                    **place,
                    **arguments,
                    **start,
                    **_placeholders(which, values),
                )
            yield page
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    @property
    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                self._connected = _connect()
            return self._connected


def _connect() -> Any:
    import boto3
    from botocore.config import Config

    # A caller waits for these calls: give up early, and tell them to come again.
    config = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 4})
    return boto3.session.Session().client("dynamodb", config=config)


@contextmanager
def _translated() -> Iterator[None]:
    """botocore's errors -> ConditionFailed, Contended, JobStoreUnavailable."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as failed:
        codes = {failed.response.get("Error", {}).get("Code", "")}
        codes |= {reason.get("Code", "") for reason in failed.response.get("CancellationReasons", ())}
        if codes & _FAILED:
            raise ConditionFailed from failed
        if codes & _CONTENDED:
            raise Contended from failed
        raise JobStoreUnavailable from failed
    except BotoCoreError as failed:
        raise JobStoreUnavailable from failed


def _placeholders(expression: str, values: Mapping[str, Value]) -> Item:
    names = {f"#{name}": name for name in _NAMES.findall(expression)}
    used = {f":{name}": _attribute(values[name]) for name in _VALUES.findall(expression)}
    return ({"ExpressionAttributeNames": names} if names else {}) | (
        {"ExpressionAttributeValues": used} if used else {}
    )


def _attributes(item: Mapping[str, Value | None]) -> Item:
    return {name: _attribute(value) for name, value in item.items() if value is not None}


def _attribute(value: Value) -> Item:
    if isinstance(value, str):
        return {"S": value}
    return {"B": value} if isinstance(value, bytes) else {"N": repr(value)}


def _plain(item: Mapping[str, Item]) -> Item:
    return {name: _number(typed["N"]) if "N" in typed else next(iter(typed.values())) for name, typed in item.items()}


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
