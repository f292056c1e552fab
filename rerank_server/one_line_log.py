"""One JSON object per log line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime


class OneLineFormatter(logging.Formatter):
    """Writes time, level, logger, message, the record's `fields`, and an error on one line."""

    def __init__(self, always: Mapping[str, object] | None = None) -> None:
        """Put `always` into every line."""
        super().__init__()
        self._always = always or {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break whatever the message holds."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


def configure_logging(level: str, always: Mapping[str, object] | None = None) -> None:
    """Send the log to standard error, one line per record; other programs' debug lines not.

    Args:
        level: Of our own lines.
        always: Fields of every line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter(always))
    wanted = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(wanted, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("rerank_server").setLevel(wanted)
