"""The parts of a long computation, each kept on disk once it is done, with where it comes from.

A part is named for its reader and keyed by what it is made of, so that a call that was stopped goes
on with the first part that is missing, and one whose data, settings or code differ computes anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from trainer.training.provenance import code_commit, now

Arrays: TypeAlias = dict[str, np.ndarray]
_RECORD = "record"


@dataclass(frozen=True, slots=True)
class Part:
    """One part to be computed.

    Attributes:
        name: Names it to a reader, and is distinct.
        made_from: Everything that the outcome depends on, as plain JSON values.
        compute: Returns arrays by name, and plain JSON values that go with them.
    """

    name: str
    made_from: Any
    compute: Callable[[], tuple[Arrays, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a part comes from.

    Attributes:
        name: Of the part.
        commit: Of the code that computed it, as `code_commit` gives it.
        finished: When it was computed (UTC).
        seconds: How long it took then.
    """

    name: str
    commit: str
    finished: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """What a part gave, in this call or in an earlier one."""

    arrays: Arrays
    facts: dict[str, Any]
    origin: Origin


def compute_parts(
    parts: Iterable[Part], folder: Path, *, progress: bool
) -> dict[str, FinishedPart]:
    """Return every part by its name, computing and keeping those that are not in `folder`.

    Args:
        parts: In the order in which they are computed.
        folder: Where they are kept, one file each, whole or not at all.
        progress: Whether to draw a bar that names the part in work, and tell each part's cost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished: dict[str, FinishedPart] = {}
    ordered = list(parts)
    with tqdm(total=len(ordered), unit="part", disable=not progress) as bar:
        for part in ordered:
            bar.set_description(part.name)
            path = folder / _file_name(part)
            kept = _read(path)
            finished[part.name] = kept or _compute(part, path)
            if progress:
                origin = finished[part.name].origin
                told = f"kept from {origin.finished}, " if kept else ""
                bar.write(f"{part.name}: {told}{origin.seconds:.0f} s")
            bar.update()
    return finished


def _file_name(part: Part) -> str:
    key = hashlib.sha256(json.dumps([part.name, part.made_from]).encode()).hexdigest()[:16]
    readable = re.sub(r"[^a-z0-9]+", "-", part.name.lower()).strip("-")
    return f"{readable}-{key}.npz"


def _compute(part: Part, path: Path) -> FinishedPart:
    began, commit = time.monotonic(), code_commit()
    arrays, facts = part.compute()
    origin = Origin(part.name, commit, now(), round(time.monotonic() - began, 1))
    record = np.array(json.dumps({"origin": asdict(origin), "facts": facts}))
    temporary = path.with_suffix(".unfinished")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **{_RECORD: record})
    temporary.replace(path)
    return FinishedPart(arrays, facts, origin)


def _read(path: Path) -> FinishedPart | None:
    """Return what is kept at `path`; None where nothing is, or nothing that can be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored.items())
    except (OSError, ValueError, EOFError, BadZipFile):
        return None
    record = json.loads(str(arrays.pop(_RECORD)))
    return FinishedPart(arrays, record["facts"], Origin(**record["origin"]))
