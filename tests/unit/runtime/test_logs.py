"""Log lines are JSON, one each, where stdout is not a terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from runtime import logs


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging.getLogger("a.library").handlers.clear()


def test_one_json_line_each_even_for_exceptions(capsys) -> None:
    logs.configure("info")
    log = structlog.get_logger()
    log.debug("too fine")
    log.info("step", rows=4, steps=[3, 17])
    try:
        raise ValueError("fault\nof two lines")
    except ValueError:
        log.exception("failed")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("step", "info"), ("failed", "error")]
    assert (lines[0]["rows"], lines[0]["steps"]) == (4, [3, 17])
    assert "ValueError: fault" in lines[1]["exception"]


def test_a_librarys_warnings_look_like_ours(capsys) -> None:
    logs.configure("info")
    logs.adopt("a.library")
    logging.getLogger("a.library").info("chatter")
    logging.getLogger("a.library").warning("careful: %d", 3)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "careful: 3"
