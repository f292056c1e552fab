"""A run's configuration as the TOML file that `read_config` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from trainer.config import TrainConfig


def config_to_toml(config: TrainConfig, comments: Sequence[str] = ()) -> str:
    """Return the TOML of a configuration: its name and log, and what is not as by default.

    Args:
        config: What is written.
        comments: Lines above it, without the mark of a comment.
    """
    lines = [f"# {line}" for line in comments]
    for field in fields(TrainConfig):
        value = getattr(config, field.name)
        if field.name in {"name", "log"} or value != field.default:
            lines.append(f"{field.name} = {toml_value(value)}")
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:  # noqa: ANN401  what a configuration can hold
    """Return a string, number, flag, list or table of these, or an entry as TOML writes it.

    JSON writes them alike, but for the floats that only TOML can write.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = {
            item.name: getattr(value, item.name)
            for item in fields(value)
            if getattr(value, item.name) != item.default
        }
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, float):
        return repr(value)  # `inf` and `nan` included, and as many digits as it takes
    return json.dumps(value, ensure_ascii=False)
