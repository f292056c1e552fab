"""`filter_path`, Elasticsearch's own way to shorten an answer, for the fields that we add to it.

Patterns are paths of names with dots between; `*` stands for any characters of one name, `**` for
any number of names; a leading `-` leaves out (Elasticsearch reference, "Response Filtering").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class FilterPath:
    """What the caller wants of an answer; no patterns at all want everything.

    Attributes:
        includes: Patterns of what to keep; none keeps everything.
        excludes: Patterns of what to leave out, without their `-`.
    """

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str) -> FilterPath:
        """Read the value of the parameter."""
        patterns = [part.strip() for part in text.split(",") if part.strip()]
        return cls(
            tuple(part for part in patterns if not part.startswith("-")),
            tuple(part[1:] for part in patterns if part.startswith("-")),
        )

    @property
    def everything(self) -> bool:
        """Whether nothing is filtered."""
        return not self.includes and not self.excludes

    def keeps(self, path: str) -> bool:
        """Return whether the value at `path` is in the caller's answer."""
        names = path.split(".")
        included = not self.includes or _any(self.includes, names)
        return included and not self.leaves_out(path)

    def leaves_out(self, path: str) -> bool:
        """Return whether an exclusion takes `path` away, whatever is asked for."""
        return _any(self.excludes, path.split("."))

    def with_paths(self, paths: Sequence[str]) -> str:
        """Return the parameter that asks for `paths` as well."""
        includes = (*self.includes, *paths) if self.includes else ()
        return ",".join((*includes, *(f"-{pattern}" for pattern in self.excludes)))


def _any(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return any(_covers(pattern.split("."), names) for pattern in patterns)


def _covers(pattern: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether the pattern names these names or something that holds them."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_covers(pattern[1:], names[start:]) for start in range(len(names)))
    if not names or not fnmatchcase(names[0], pattern[0]):
        return False
    return _covers(pattern[1:], names[1:])
