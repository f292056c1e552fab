"""The version of the installed program."""

from __future__ import annotations

from importlib import metadata


def server_version() -> str:
    """Return the version of the installed distribution; "0+source" when run from a checkout."""
    try:
        return metadata.version("crossrank")
    except metadata.PackageNotFoundError:
        return "0+source"
