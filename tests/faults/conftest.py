"""The web as a fetcher sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from darkroom.fetch.fetcher import Fetcher
from tests.fakes.remote import Names, Remote, Sockets, WayTo, serving


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Sockets:
    return Sockets().install(monkeypatch.setattr)


@pytest.fixture
def remote() -> Iterator[Remote]:
    with serving() as remote:
        yield remote


@pytest.fixture
def fetcher(remote: Remote) -> Callable[..., Fetcher]:
    """Fetchers for which every public name is `remote`, by http."""

    def build(**given: Any) -> Fetcher:
        return Fetcher(**{"http": True, "resolve": Names({}), "network": WayTo(remote), **given})

    return build
