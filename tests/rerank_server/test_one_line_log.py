"""One record is one line, whatever is in it."""

from __future__ import annotations

import json
import logging

from rerank_server.one_line_log import OneLineFormatter


def test_line_breaks_and_errors_stay_on_one_line():
    error = ValueError("one\ntwo")
    info = (ValueError, error, None)
    record = logging.LogRecord("a.b", logging.ERROR, "f", 1, "x\n%s", ("y\u2028",), info)
    record.fields = {"took_us": 7}
    line = OneLineFormatter().format(record)
    assert len(line.splitlines()) == 1
    value = json.loads(line)
    assert value["message"] == "x\ny\u2028"
    assert (value["level"], value["logger"], value["took_us"]) == ("error", "a.b", 7)
    assert "ValueError: one\ntwo" in value["error"]
