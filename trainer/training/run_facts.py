"""What a run's folder tells of the run: settings, seeds, data, code, machine, and how it ended.

`run.json` is written before the first step and again after each evaluation, whole or not at all;
`packages.txt` beside it has the version of every package that the last call found installed.
Reading it back checks it, and that the weights and curves beside it are those that it speaks of.
"""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rerank_server.contract.errors import RerankError
from trainer.atomic_text import write_text
from trainer.training.provenance import (
    NETWORK_CODE,
    code_commit,
    code_hash,
    command_line,
    describe_environment,
    installed_packages,
    now,
)

FACTS = "run.json"
PACKAGES = "packages.txt"
CURVES = "training.jsonl"
_FORMAT = 1
_KEPT_FILES = (CURVES, "best.pdparams")
_KIB_PER_MIB = 1024


class RunFolderError(RerankError):
    """A folder that holds no run, or one whose files are not those of the run."""


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run learned from.

    Attributes:
        content_hash: Of the prepared log.
        encoded: Name of the encoded log, a hash of all that decides its features.
        pages: Training, validation and test pages of each surface of the run.
    """

    content_hash: str
    encoded: str
    pages: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call that worked on the run; a run that was stopped and gone on with has several.

    Attributes:
        command: As it was typed.
        began: When (UTC).
        seconds: Wall time, up to the last evaluation when it was stopped.
        commit: Of the code, with `+changes` where it was changed since.
        code: Hash of the modules that decide what a network scores.
        environment: Machine, Python and library versions.
        processes: That trained together.
    """

    command: str
    began: str
    seconds: float
    commit: str
    code: str
    environment: dict[str, str]
    processes: int = 1


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        steps: Taken.
        best: Best validation NDCG@10.
        best_step: The step it was reached at.
        parameters: Numbers that were trained.
        peak_mib: Most memory that the process held, all that it did before included.
        objective_weights: Surface -> objective -> weight in the score.
        files: SHA-256 of the files that the run left, by name.
    """

    steps: int
    best: float
    best_step: int
    parameters: int
    peak_mib: float
    objective_weights: dict[str, dict[str, float]]
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All that `run.json` holds.

    Attributes:
        name: Of the configuration.
        config: Its values by key.
        seeds: What is drawn from which seed.
        data: What it learned from.
        calls: That worked on it, in order.
        result: None while it is not finished.
    """

    name: str
    config: dict[str, Any]
    seeds: dict[str, int]
    data: RunData
    calls: tuple[Call, ...]
    result: RunResult | None = None

    @property
    def seconds(self) -> float:
        """Wall time of all calls."""
        return sum(call.seconds for call in self.calls)


@dataclass(slots=True)
class RunRecord:
    """The facts of a run at work, kept up to date in its folder."""

    folder: Path
    facts: RunFacts
    _began: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Write how long the present call has worked so far."""
        call = replace(self.facts.calls[-1], seconds=round(time.monotonic() - self._began, 1))
        self.facts = replace(self.facts, calls=(*self.facts.calls[:-1], call))
        _write(self.folder, self.facts)

    def finish(
        self,
        *,
        steps: int,
        best: float,
        best_step: int,
        parameters: int,
        objective_weights: dict[str, dict[str, float]],
    ) -> None:
        """Write how the run ended."""
        result = RunResult(
            steps=steps,
            best=best,
            best_step=best_step,
            parameters=parameters,
            peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB, 1),
            objective_weights=objective_weights,
            files={name: _file_hash(self.folder / name) for name in _KEPT_FILES},
        )
        self.facts = replace(self.facts, result=result)
        self.tick()


def begin_run(
    folder: Path,
    name: str,
    config: dict[str, Any],
    seeds: dict[str, int],
    data: RunData,
    processes: int = 1,
) -> RunRecord | None:
    """Write that a call begins to work on a run; None when the run is finished already."""
    kept = read_run(folder) if (folder / FACTS).exists() else None
    if kept is not None and kept.result is not None:
        return None
    call = Call(
        command=command_line(),
        began=now(),
        seconds=0.0,
        commit=code_commit(),
        code=code_hash(NETWORK_CODE),
        environment=describe_environment(),
        processes=processes,
    )
    calls = (*kept.calls, call) if kept is not None else (call,)
    write_text(folder / PACKAGES, "".join(f"{line}\n" for line in installed_packages()))
    record = RunRecord(folder, RunFacts(name, config, seeds, data, calls))
    _write(folder, record.facts)
    return record


def read_run(folder: Path) -> RunFacts:
    """Read and check the facts of a run.

    Raises:
        RunFolderError: When there are none, or the files of a finished run are missing or others.
    """
    path = folder / FACTS
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{folder}: got no {FACTS} there, want a folder that `train` wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: got {error}, want the facts of a run") from error
    facts = _facts_from_json(value, path)
    for name, wanted in (facts.result.files if facts.result is not None else {}).items():
        got = _file_hash(folder / name)
        if got != wanted:
            raise RunFolderError(
                f"{folder / name}: got {f'SHA-256 {got[:12]}' if got else 'no such file'}, want "
                f"SHA-256 {wanted[:12]}, what the run left; without {FACTS} it is trained anew"
            )
    return facts


def _facts_from_json(value: Any, path: Path) -> RunFacts:  # noqa: ANN401  JSON holds any value
    if not isinstance(value, Mapping) or value.get("format_version") != _FORMAT:
        got = value.get("format_version") if isinstance(value, Mapping) else value
        raise RunFolderError(f"{path}: got format_version {got!r}, want {_FORMAT}")
    try:
        result = value["result"]
        return RunFacts(
            name=value["name"],
            config=value["config"],
            seeds=value["seeds"],
            data=RunData(**value["data"]),
            calls=tuple(Call(**call) for call in value["calls"]),
            result=None if result is None else RunResult(**result),
        )
    except (KeyError, TypeError) as error:
        raise RunFolderError(f"{path}: got {error!r}, want the facts of a run") from error


def _write(folder: Path, facts: RunFacts) -> None:
    value = {"format_version": _FORMAT, **asdict(facts)}
    write_text(folder / FACTS, json.dumps(value, indent=1) + "\n")


def _file_hash(path: Path) -> str:
    """Return the SHA-256 of a file; empty where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
