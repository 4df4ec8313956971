"""Log lines of a process, one an event: for people on a terminal, JSON elsewhere. Prompts are never logged."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from typing import TextIO


def configure(level: str, stream: TextIO) -> None:
    """Set up structlog to write to `stream`; `level` is debug, info, warning or error; else info."""
    import structlog

    least = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if stream.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        import structlog

        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def adopt(name: str, level: int = logging.WARNING) -> None:
    """Send a library's own standard-library logger through structlog, so that its lines look like ours."""
    logger = logging.getLogger(name)
    logger.handlers = [_ToStructlog()]
    logger.setLevel(level)
    logger.propagate = False


def forward(line: str) -> None:
    """A line that another process wrote, to stderr: as it is, but on a terminal one of ours as people read it."""
    if sys.stderr.isatty():
        with contextlib.suppress(ValueError, TypeError, KeyError):  # a library's own line
            line = _for_people(json.loads(line))
    print(line, file=sys.stderr, flush=True)


def _for_people(fields: dict[str, object]) -> str:
    import structlog

    if not isinstance(fields, dict) or "event" not in fields:
        raise KeyError
    return structlog.dev.ConsoleRenderer()(None, "", fields)
