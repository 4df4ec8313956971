"""Log lines are JSON, one each, where they do not go to a terminal, and none is where they do."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from darkroom import logs


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging.getLogger("a.library").handlers.clear()


def test_one_json_line_each_even_for_exceptions(capsys) -> None:
    logs.configure("info", sys.stdout)
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
    logs.configure("info", sys.stdout)
    logs.adopt("a.library")
    logging.getLogger("a.library").info("chatter")
    logging.getLogger("a.library").warning("careful: %d", 3)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "careful: 3"


LINE = {"event": "step", "level": "info", "timestamp": "2026-12-01T03:00:00Z", "rows": 4, "exception": "Trace\nback"}


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", written)
    return written


def test_a_terminal_sees_no_json_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    written = terminal(monkeypatch)
    logs.forward(json.dumps(LINE))
    assert "{" not in written.getvalue()
    assert all(word in written.getvalue() for word in ("step", "rows", "4", "Trace\nback"))


@pytest.mark.parametrize("line", ["a library's own words", "[1, 2]", '{"no": "event"}', '"word"', "{"])
def test_what_is_not_ours_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    written = terminal(monkeypatch)
    logs.forward(line)
    assert written.getvalue() == f"{line}\n"


def test_elsewhere_every_line_stays_as_it_is(capsys) -> None:
    logs.forward(json.dumps(LINE))
    assert capsys.readouterr().err == json.dumps(LINE) + "\n"


def test_both_dialects_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of this process and the same one of another, on a terminal."""
    written = terminal(monkeypatch)
    logs.configure("info", sys.stderr)
    structlog.get_logger().info("step", rows=4)
    own = written.getvalue()
    piped = io.StringIO()
    structlog.reset_defaults()
    logs.configure("info", piped)
    structlog.get_logger().info("step", rows=4)
    written.truncate(0)
    written.seek(0)
    logs.forward(piped.getvalue().rstrip("\n"))
    assert own.partition("Z")[2] == written.getvalue().partition("Z")[2] != ""
