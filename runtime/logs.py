"""Structured logging: JSON lines where stdout is not a terminal. Prompts are never logged, only their length."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str) -> None:
    """Set up structlog for this process; `level` is debug, info, warning or error."""
    terminal = sys.stdout.isatty()
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def adopt(name: str, level: int = logging.WARNING) -> None:
    """Send a library's own standard-library logger through structlog, so that its lines look like ours."""
    logger = logging.getLogger(name)
    logger.handlers = [_ToStructlog()]
    logger.setLevel(level)
    logger.propagate = False
