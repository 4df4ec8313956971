"""The data directory."""

from pathlib import Path

import pytest

from darkroom.settings import Settings
from local import data
from local.errors import CannotStart


def test_everything_lies_below_it(tmp_path: Path) -> None:
    prepared = data.prepare(Settings(data_dir=str(tmp_path / "a" / "b")))
    assert prepared.store_url == f"file://{tmp_path}/a/b/store"
    assert prepared.jobs_url == f"sqlite:///{tmp_path}/a/b/jobs.db"
    assert len(prepared.signing_key) == 64


def test_the_signing_key_is_drawn_once_and_kept_secret(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path))
    assert data.prepare(settings).signing_key == data.prepare(settings).signing_key
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600
    assert data.prepare(Settings(data_dir=str(tmp_path / "other"))).signing_key != data.prepare(settings).signing_key


def test_a_key_whose_writing_was_cut_off_is_drawn_again(tmp_path: Path) -> None:
    (tmp_path / "signing.key").touch()
    assert len(data.prepare(Settings(data_dir=str(tmp_path))).signing_key) == 64


def test_what_was_given_stays(tmp_path: Path) -> None:
    given = Settings(data_dir=str(tmp_path), store_url="s3://bucket", jobs_url="postgresql://db", signing_key="mine")
    prepared = data.prepare(given)
    assert (prepared.store_url, prepared.jobs_url, prepared.signing_key) == ("s3://bucket", "postgresql://db", "mine")
    assert not list(tmp_path.iterdir())


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CannotStart, match="DARKROOM_DATA_DIR"):
            data.prepare(Settings(data_dir=str(path)))
