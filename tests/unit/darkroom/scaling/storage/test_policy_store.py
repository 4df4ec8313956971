"""What every PolicyStore owes: versions that never come twice, conditional writes, an audit, and a fence."""

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from sqlalchemy import update

from darkroom.database.condition import Condition
from darkroom.database.records import TABLE
from darkroom.errors import InvalidPolicy, JobStoreUnavailable, PolicyNotFound, PreconditionFailed
from darkroom.scaling.storage import Change, PolicyStore
from darkroom.scaling.storage.dynamodb import DynamoPolicyStore
from darkroom.scaling.storage.schema import changes, policies
from darkroom.scaling.storage.sql import SqlPolicyStore

OLD, NEW = {"min": 0, "max": 2}, {"min": 1, "max": 4, "windows": [{"name": "w", "hours": "09:00-16:00", "min": 2}]}
NONE_YET = Condition(exists=False)


@pytest.fixture(params=["sqlite", "postgres", "dynamodb"])
def opened(request, tmp_path, monkeypatch):
    """Opens the same store again and again, as other processes would."""
    if request.param == "sqlite":
        kind, place = SqlPolicyStore, f"sqlite:///{tmp_path}/jobs.db"
    elif request.param == "postgres":
        kind, place = SqlPolicyStore, request.getfixturevalue("empty_postgres")
    else:
        for name, value in request.getfixturevalue("dynamodb").items():
            monkeypatch.setenv(name, value)
        kind, place = DynamoPolicyStore, f"policies-{secrets.token_hex(8)}"
        boto3.client("dynamodb").create_table(TableName=place, **TABLE)
    stores: list[PolicyStore] = []

    def open_one():
        stores.append(kind(place, wall=lambda: 1_800_000_000.0))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened):
    return opened()


def test_a_policy_is_kept_as_it_was_written(store, opened):
    assert store.get("crayon") is None
    store.put("crayon", NEW, by="a")
    stored = opened().get("crayon")
    assert stored is not None
    assert (stored.document, stored.etag, stored.changed_by, stored.changed_at) == (NEW, '"1"', "a", 1_800_000_000.0)
    assert stored.policy.windows[0].min == 2


def test_a_write_whose_answer_is_lost_is_known_again(store, opened, monkeypatch):
    first = store.put("crayon", OLD, by="a")
    lose_answers(store, monkeypatch)
    seen = Condition(match=frozenset({first.etag}))
    stored = store.put("crayon", NEW, by="b", when=seen)
    assert (stored.version, stored.document, stored.replaces) == (2, NEW, True)
    assert opened().get("crayon").document == NEW
    assert [change.version for change in opened().history("crayon")] == [1, 2]
    with pytest.raises(PreconditionFailed):
        opened().put("crayon", OLD, by="c", when=seen)


def lose_answers(store, monkeypatch):
    if isinstance(store, SqlPolicyStore):
        write = store._database.write

        @contextmanager
        def lost():
            with write() as connection:
                yield connection
            raise JobStoreUnavailable

        monkeypatch.setattr(store._database, "write", lost)
    else:
        client = store._records._table._client
        transact = client.transact_write_items

        def silent(**arguments):
            transact(**arguments)
            raise ReadTimeoutError(endpoint_url="https://dynamodb")

        monkeypatch.setattr(client, "transact_write_items", silent)


def test_versions_grow_across_a_deletion(store):
    assert store.put("crayon", OLD, by="a").version == 1
    store.delete("crayon", by="a")
    assert store.get("crayon") is None
    assert [one.document for one in store.all()] == [None]
    with pytest.raises(PolicyNotFound):
        store.delete("crayon", by="a")
    assert store.put("crayon", NEW, by="a", when=NONE_YET).version == 3
    assert store.all()[0].document == NEW


def test_a_stale_write_changes_nothing(store):
    first = store.put("crayon", OLD, by="a")
    store.put("crayon", NEW, by="b", when=Condition(match=frozenset({first.etag})))
    for stale in (Condition(match=frozenset({first.etag})), NONE_YET):
        with pytest.raises(PreconditionFailed):
            store.put("crayon", OLD, by="c", when=stale)
        with pytest.raises(PreconditionFailed):
            store.delete("crayon", by="c", when=stale)
    with pytest.raises(PreconditionFailed):
        store.put("other", OLD, by="c", when=Condition(exists=True))
    assert store.get("crayon").document == NEW
    assert [change.by for change in store.history("crayon")] == ["a", "b"]


def test_the_audit_says_who_changed_what_when(store):
    store.put("crayon", OLD, by="a")
    store.put("crayon", NEW, by="b")
    store.delete("crayon", by="a")
    at = 1_800_000_000.0
    assert store.history("crayon") == [
        Change("crayon", 1, at, "a", None, OLD),
        Change("crayon", 2, at, "b", OLD, NEW),
        Change("crayon", 3, at, "a", NEW, None),
    ]
    assert store.history("other") == []


def test_of_many_who_saw_the_same_version_one_writes(store):
    seen = Condition(match=frozenset({store.put("crayon", OLD, by="a").etag}))

    def write(number):
        try:
            return store.put("crayon", {"min": 0, "max": number}, by=str(number), when=seen).version
        except PreconditionFailed:
            return None

    with ThreadPoolExecutor(8) as threads:
        versions = list(threads.map(write, range(1, 9)))
    assert sorted(version for version in versions if version) == [2]
    assert len(store.history("crayon")) == 2


def test_the_newest_holder_writes_and_no_other(store):
    with pytest.raises(PolicyNotFound):
        store.take("crayon")
    store.put("crayon", OLD, by="a")
    paused, newest = store.take("crayon"), store.take("crayon")
    assert not store.held(paused)
    assert not store.applied(paused, "old")
    assert store.held(newest)
    assert store.applied(newest, "new")
    assert store.get("crayon").applied == "new"
    assert store.put("crayon", NEW, by="a").applied == "new"  # a new document does not undo what is out there


def test_every_models_policy_is_found_by_name(store):
    for model in ("sd15", "crayon", "gone"):
        store.put(model, OLD, by="a")
    store.delete("gone", by="a")
    assert [(one.model, one.document) for one in store.all()] == [("crayon", OLD), ("gone", None), ("sd15", OLD)]


def test_writers_who_set_no_condition_all_get_through(store):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: store.put("crayon", {"min": 0, "max": number}, by=str(number)), range(1, 5)))
    assert [change.version for change in store.history("crayon")] == [1, 2, 3, 4]


def test_a_hold_that_ended_leaves_no_trace(store):
    store.put("crayon", OLD, by="a")
    hold = store.take("crayon")
    assert store.applied(hold, "begun")
    assert store.applied(hold, None)
    assert store.get("crayon").applied is None


def overwrite(store, text):
    if isinstance(store, SqlPolicyStore):
        with store._database.write() as connection:
            connection.execute(update(policies).values(document=text))
            connection.execute(update(changes).values(new=text))
        return
    client = boto3.client("dynamodb")
    for item in client.scan(TableName=store._records._table.name)["Items"]:
        attribute = "document" if item["kind"]["S"] == "policy" else "new"
        client.put_item(TableName=store._records._table.name, Item={**item, attribute: {"S": text}})


DEEP = '{"a":' * 1000 + "1" + "}" * 1000


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"min": 0, "max": 2, "of_a_newer_release": 1}', "{}", DEEP])
def test_a_policy_that_cannot_be_read_is_shown_and_can_be_replaced(store, opened, text):
    stored = store.put("crayon", OLD, by="a")
    overwrite(store, text)
    damaged = opened().get("crayon")
    assert text[:1000] in (json.dumps(damaged.document), damaged.document.get("unreadable"))
    with pytest.raises(InvalidPolicy):
        _ = damaged.policy
    assert [one.model for one in store.all()] == ["crayon"]
    assert store.history("crayon")[0].new == damaged.document
    assert store.put("crayon", NEW, by="b", when=Condition(match=frozenset({stored.etag}))).version == 2
    assert opened().get("crayon").policy.max == 4
