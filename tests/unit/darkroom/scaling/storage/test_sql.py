"""What is particular to policies in SQL: they share a database with the jobs, and refuse a newer one."""

import pytest
from sqlalchemy import create_engine, text

from darkroom.errors import JobStoreUnavailable
from darkroom.jobs.sql import SqlJobStore
from darkroom.scaling.storage import open_policies
from darkroom.scaling.storage.sql import SqlPolicyStore

OLD = {"min": 0, "max": 2}


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def store(url):
    opened = SqlPolicyStore(url)
    yield opened
    opened.close()


def test_it_lives_beside_the_jobs(store, url):
    jobs = SqlJobStore(url)
    store.put("crayon", OLD, by="a")
    assert sum(jobs.counts().values()) == 0
    jobs.close()


def test_tables_of_a_newer_version_are_refused(store, url):
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE darkroom_scaling_schema SET version = 99"))
    engine.dispose()
    with pytest.raises(JobStoreUnavailable, match="newer version"):
        SqlPolicyStore(url)


def test_what_is_no_database_is_refused():
    with pytest.raises(ValueError, match="no policy store for s3"):
        open_policies("s3://bucket")
