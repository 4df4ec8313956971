"""The release function's tick over several models: what it says and counts, and that none keeps another back."""

from typing import Any

import pytest

from darkroom.errors import EngineIntegrity, ModelNotFound
from darkroom.release.advance import advance
from darkroom.release.state import UNPINNED, EndpointStatus, Release, Seen, TrafficSplit
from darkroom.settings import SettingsError
from functions import release
from tests.fakes.releases import MemoryReleases, MemoryWorld

OLD, NEW = "a" * 16, "b" * 16


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(release, "count", found.append)
    return found


class Broken(MemoryWorld):
    """A world that cannot be seen."""

    def __init__(self, error: Exception) -> None:
        super().__init__(OLD, None)
        self.error = error

    def see(self, release: Release | None) -> Seen:
        raise self.error


def tick(**worlds: MemoryWorld) -> dict[str, dict[str, Any]]:
    """One tick of models that nothing is known of."""
    found = {}
    for model, world in worlds.items():
        found |= release.released(MemoryReleases(), {model: world})
    return found


def test_each_model_says_how_far_it_is(counted: list[str]) -> None:
    said = tick(
        served=MemoryWorld(OLD, TrafficSplit(UNPINNED)),
        moved=MemoryWorld(NEW, TrafficSplit(OLD)),
        none=MemoryWorld(OLD, None, status=EndpointStatus.ABSENT),
        unpublished=Broken(ModelNotFound()),
        damaged=Broken(EngineIntegrity()),
    )
    assert said == {
        "served": {"phase": "settled", "goal": OLD},
        "moved": {"phase": "shifting", "goal": NEW},
        "none": {"phase": "absent"},
        "unpublished": {"phase": "unpublished"},
        "damaged": {"phase": "failed"},
    }
    assert counted == [f"Release.{one['phase']}" for one in said.values()]


def test_one_model_that_fails_keeps_no_other_back(counted: list[str]) -> None:
    worlds = {"damaged": Broken(EngineIntegrity()), "served": MemoryWorld(OLD, TrafficSplit(UNPINNED))}
    assert release.released(MemoryReleases(), worlds)["served"]["phase"] == "settled"


def test_who_is_overtaken_says_so(counted: list[str]) -> None:
    store, world = MemoryReleases(), MemoryWorld(OLD, TrafficSplit(OLD))

    def another(_where: str) -> None:
        store.token += 1

    store.at = another
    assert release.released(store, {"tiny": world}) == {"tiny": {"phase": "overtaken"}}


def test_a_version_that_is_taken_back_is_counted_once(counted: list[str]) -> None:
    store, world = MemoryReleases(), MemoryWorld(OLD, TrafficSplit(OLD), bad={NEW})
    advance("tiny", store, world)
    world.pointer = NEW
    for _ in range(30):
        said = release.released(store, {"tiny": world})
        world.tick()
    assert said == {"tiny": {"phase": "settled", "goal": OLD, "why": "It drew nothing."}}
    assert counted.count("Release.returned") == 1


def test_without_a_table_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_POLICIES_URL", "sqlite:///jobs.db")
    with pytest.raises(SettingsError, match="DARKROOM_POLICIES_URL"):
        release.lambda_handler({}, None)
