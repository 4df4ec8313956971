"""Policies in SQL: versions that never come twice, conditional writes, an audit, and a fence."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from darkroom.errors import JobStoreUnavailable, PolicyNotFound, PreconditionFailed
from darkroom.jobs.sql import SqlJobStore
from darkroom.scaling.storage import Change, Condition, open_policies
from darkroom.scaling.storage.sql import SqlPolicyStore

OLD, NEW = {"min": 0, "max": 2}, {"min": 1, "max": 4, "windows": [{"name": "w", "hours": "09:00-16:00", "min": 2}]}
NONE_YET = Condition(exists=False)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def store(url):
    opened = SqlPolicyStore(url, wall=lambda: 1_800_000_000.0)
    yield opened
    opened.close()


def test_a_policy_is_kept_as_it_was_written(store, url):
    assert store.get("crayon") is None
    store.put("crayon", NEW, by="a")
    other = open_policies(url)
    stored = other.get("crayon")
    assert stored is not None
    assert (stored.document, stored.etag, stored.changed_by, stored.changed_at) == (NEW, '"1"', "a", 1_800_000_000.0)
    assert stored.policy.windows[0].min == 2
    other.close()


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


def test_it_lives_beside_the_jobs(store, url):
    jobs = SqlJobStore(url)
    store.put("crayon", OLD, by="a")
    assert sum(jobs.counts().values()) == 0
    jobs.close()


def test_tables_of_a_newer_version_are_refused(store, url, monkeypatch):
    monkeypatch.setattr("darkroom.scaling.storage.schema.SCHEMA_VERSION", 0)
    with pytest.raises(JobStoreUnavailable, match="newer version"):
        SqlPolicyStore(url)


def test_what_is_no_database_is_refused():
    with pytest.raises(ValueError, match="no policy store for s3"):
        open_policies("s3://bucket")
