"""Results of a benchmark as a JSON file, with the circumstances of the run."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def circumstances() -> dict[str, Any]:
    """Return when and on what a run is made, and what else the machine did meanwhile."""
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "onnxruntime": version("onnxruntime"),
        "load_average": [round(value, 1) for value in os.getloadavg()],
    }


def write_result(path: Path, value: dict[str, Any]) -> None:
    """Write `value` as JSON, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
