"""All checks of an installation, in the order in which they help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from rerank_server.doctor.entrances import check_entrances
from rerank_server.doctor.finding import Finding, broken, good
from rerank_server.doctor.folders import check_folders, check_writing
from rerank_server.doctor.machine import (
    check_clock,
    check_cores,
    check_memory,
    check_provider,
    clock_is_synchronised,
)
from rerank_server.settings import SettingsError, read_settings


def examine(
    flags: Mapping[str, str | None], environment: Mapping[str, str], provider: str | None
) -> Iterator[Finding]:
    """Yield what each check finds; nothing is changed and nothing stays open.

    Args:
        flags: Setting -> text, as `crossrank serve` takes them.
        environment: The process environment.
        provider: An execution provider that onnxruntime must have; None wants none in particular.
    """
    try:
        settings = read_settings(flags, environment)
    except SettingsError as error:
        advice = "`crossrank serve --help` lists every setting; RERANK_<NAME> sets it as well"
        yield broken("settings", str(error), advice)
        yield from check_provider(provider)
        return
    now = datetime.now(UTC)
    yield good("settings", "every flag and RERANK_ variable is known and in range")
    yield from check_folders(settings)
    yield from check_writing(settings)
    yield from check_entrances(settings, now)
    yield from check_cores(settings)
    yield from check_memory(settings)
    yield from check_provider(provider)
    yield from check_clock(settings, now, synchronised=clock_is_synchronised())
