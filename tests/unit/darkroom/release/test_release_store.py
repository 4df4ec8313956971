"""What a ReleaseStore owes: conditional requests with an audit, progress that overwrites none of them, and a fence."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest

from darkroom.database.condition import Condition
from darkroom.database.records import TABLE
from darkroom.errors import JobStoreUnavailable, PreconditionFailed
from darkroom.release import open_releases
from darkroom.release.dynamodb import DynamoReleaseStore
from darkroom.release.state import Phase, Release, Request, TrafficSplit
from darkroom.release.storage import LoggedRequest, StoredRelease
from darkroom.scaling.storage.dynamodb import DynamoPolicyStore
from tests.fakes import aws

OLD, NEW = TrafficSplit("a" * 16), TrafficSplit("a" * 16, "b" * 16, 10)
RELEASE = Release(goal=NEW, proven=OLD, pointer=OLD.version, since=5.5, phase=Phase.SHIFTING, earlier=("c" * 16,))


@pytest.fixture(scope="module")
def endpoint():
    with aws.serving() as url:
        yield url


@pytest.fixture
def table(endpoint, monkeypatch):
    for name, value in aws.environment(endpoint).items():
        monkeypatch.setenv(name, value)
    name = f"releases-{secrets.token_hex(8)}"
    boto3.client("dynamodb").create_table(TableName=name, **TABLE)
    return name


@pytest.fixture
def store(table):
    opened = DynamoReleaseStore(table, wall=lambda: 1_800_000_000.0)
    yield opened
    opened.close()


def test_nothing_is_known_at_first(store):
    assert store.get("crayon") is None
    assert store.history("crayon") == []


def test_progress_is_kept_as_it_was(store):
    hold = store.take("crayon")
    assert store.get("crayon") == StoredRelease("crayon")
    assert store.save(hold, RELEASE)
    assert store.get("crayon") == StoredRelease("crayon", RELEASE)
    assert store.get("other") is None


def test_requests_are_numbered_and_audited(store):
    assert store.ask("crayon", OLD, by="a").request == Request(1, OLD)
    stored = store.ask("crayon", NEW, by="b")
    assert (stored.request, stored.etag) == (Request(2, NEW), '"2"')
    assert store.get("crayon") == stored
    at = 1_800_000_000.0
    assert store.history("crayon") == [LoggedRequest(1, at, "a", OLD), LoggedRequest(2, at, "b", NEW)]


def test_a_request_on_a_condition_that_does_not_hold_changes_nothing(store):
    store.ask("crayon", OLD, by="a", when=Condition(match=frozenset({'"0"'})))
    with pytest.raises(PreconditionFailed):
        store.ask("crayon", NEW, by="b", when=Condition(match=frozenset({'"0"', '"7"'})))
    assert store.get("crayon").request == Request(1, OLD)
    store.ask("crayon", NEW, by="b", when=Condition(match=frozenset({'"1"'})))


def test_neither_requests_nor_progress_overwrite_the_other(store):
    hold = store.take("crayon")
    store.ask("crayon", OLD, by="a")
    assert store.save(hold, RELEASE)
    store.ask("crayon", NEW, by="a")
    assert store.get("crayon") == StoredRelease("crayon", RELEASE, Request(2, NEW))


def test_who_was_overtaken_writes_nothing(store, table):
    paused = store.take("crayon")
    newest = DynamoReleaseStore(table).take("crayon")
    assert not store.held(paused)
    assert not store.save(paused, RELEASE)
    assert store.get("crayon").release is None
    assert store.held(newest)
    assert store.save(newest, RELEASE)


def test_of_racing_requests_each_gets_its_number(table):
    stores = [DynamoReleaseStore(table, sleep=lambda _seconds: None) for _ in range(4)]

    def ask(turn: int) -> int:
        for _ in range(20):
            try:
                return stores[turn % 4].ask("crayon", OLD, by=str(turn)).request.number
            except JobStoreUnavailable:  # nobody else would race it this hard
                continue
        raise AssertionError

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(ask, range(12)))
    assert sorted(numbers) == list(range(1, 13))
    assert [one.number for one in stores[0].history("crayon")] == list(range(1, 13))


def test_scaling_policies_live_beside_releases(store, table):
    policies = DynamoPolicyStore(table)
    policies.put("crayon", {"min": 1, "max": 2}, by="a")
    store.ask("crayon", OLD, by="a")
    assert [one.model for one in policies.all()] == ["crayon"]
    assert policies.history("crayon")[0].new == {"min": 1, "max": 2}


def test_releases_are_kept_where_policies_are_in_dynamodb(table):
    assert open_releases("sqlite:///jobs.db") is None
    opened = open_releases(f"dynamodb://{table}")
    assert opened is not None
    assert opened.get("crayon") is None
    opened.close()


def test_a_table_that_is_not_there_is_a_store_that_does_not_answer(table):
    with pytest.raises(JobStoreUnavailable):
        DynamoReleaseStore("gone").get("crayon")


DEEP = '{"a":' * 1000 + "1" + "}" * 1000


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"of_a_newer_release": 1}', "5", DEEP])
def test_a_release_that_cannot_be_read_is_looked_at_and_asked_for_anew(store, table, text):
    store.ask("crayon", OLD, by="a")
    assert store.save(store.take("crayon"), RELEASE)
    client = boto3.client("dynamodb")
    for item in client.scan(TableName=table)["Items"]:
        client.put_item(TableName=table, Item={**item, **{name: {"S": text} for name in ("release", "asked")}})
    assert store.get("crayon") == StoredRelease("crayon")
    assert store.history("crayon") == []
    assert store.ask("crayon", NEW, by="b").request == Request(2, NEW)
    assert store.save(store.take("crayon"), RELEASE)
    assert store.get("crayon") == StoredRelease("crayon", RELEASE, Request(2, NEW))
