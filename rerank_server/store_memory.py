"""How much memory this process holds, and how much of it are mapped files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class ResidentMemory:
    """Bytes in memory now.

    Attributes:
        private: Of this process alone.
        file: Of mapped files; shared by all processes that map them, and given back when memory
            gets short.
    """

    private: int
    file: int

    @property
    def total(self) -> int:
        """Both."""
        return self.private + self.file


def resident_memory() -> ResidentMemory:
    """Return the memory of this process; zeros where the system does not tell."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return ResidentMemory(0, 0)
    kibibytes = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in lines)
        if name in {"RssAnon", "RssFile", "RssShmem"}
    }
    return ResidentMemory(
        kibibytes.get("RssAnon", 0) * 1024,
        (kibibytes.get("RssFile", 0) + kibibytes.get("RssShmem", 0)) * 1024,
    )
