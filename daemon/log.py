"""Structured logs: a constant message and key=value pairs, as text lines or as one JSON object a line.

>>> log = get_logger("scheduler")
>>> log.info("bound", pod="default/web-1", node="worker-1")   # doctest: +SKIP
I1120 23:41:38.123456 scheduler "bound" pod="default/web-1" node="worker-1"
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

_LETTER = {logging.DEBUG: "D", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}


class Logger:
    """A thin face over :mod:`logging` that takes values as keywords."""

    def __init__(self, name: str, **bound: object) -> None:
        self._log = logging.getLogger(name)
        self._bound = bound

    def bind(self, **values: object) -> Logger:
        """A logger that adds `values` to every line."""
        return Logger(self._log.name, **{**self._bound, **values})

    def enabled(self, level: int) -> bool:
        return self._log.isEnabledFor(level)

    def debug(self, message: str, **values: object) -> None:
        self._emit(logging.DEBUG, message, values)

    def info(self, message: str, **values: object) -> None:
        self._emit(logging.INFO, message, values)

    def warning(self, message: str, **values: object) -> None:
        self._emit(logging.WARNING, message, values)

    def error(self, message: str, **values: object) -> None:
        self._emit(logging.ERROR, message, values)

    def exception(self, message: str, **values: object) -> None:
        """An error with the traceback of the exception being handled."""
        self._emit(logging.ERROR, message, values, exc_info=True)

    def _emit(self, level: int, message: str, values: dict[str, object], exc_info: bool = False) -> None:
        if self._log.isEnabledFor(level):
            self._log.log(level, message, exc_info=exc_info, extra={"kv": {**self._bound, **values}})


def get_logger(name: str) -> Logger:
    """The logger of a component; `name` is the room's, with dots for its parts."""
    return Logger(name)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        pairs = "".join(f" {key}={_quote(value)}" for key, value in getattr(record, "kv", {}).items())
        head = f"{_LETTER.get(record.levelno, 'I')}{when:%m%d %H:%M:%S.%f} {record.name}"
        line = f'{head} "{record.getMessage()}"{pairs}'
        if record.exc_info:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **getattr(record, "kv", {}),
        }
        if record.exc_info:
            entry["stack"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return json.dumps(entry, default=str)


def _quote(value: object) -> str:
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return json.dumps(str(value), ensure_ascii=False)


def configure(verbosity: int = 0, fmt: str = "text", stream: TextIO | None = None) -> None:
    """Send all logs to `stream` (standard error); `verbosity` 4 and above shows debug lines, as klog does with ``--v``."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if fmt == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 4 else logging.INFO)
    for noisy in ("httpx", "httpcore", "asyncio", "hpack", "uvicorn.access", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
