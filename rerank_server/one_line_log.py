"""One JSON object per log line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class OneLineFormatter(logging.Formatter):
    """Writes time, level, logger, message, the record's `fields`, and an error on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break whatever the message holds."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


def configure_logging(level: str) -> None:
    """Send the log to standard error, one line per record; other programs' debug lines not."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter())
    wanted = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(wanted, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("rerank_server").setLevel(wanted)
