"""What an ablation changes, one thing at a time, and what it may spend: a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rerank_server.contract.errors import RerankError, nearest
from trainer.config import TrainConfig, config_from_values, read_toml
from trainer.encoding.log_share import PageLimits

FULL = "full"
_SPLITS = ("validation", "test")
_KEYS = (
    "config",
    "seeds",
    "split",
    "train_pages",
    "validation_pages",
    "test_pages",
    "set",
    "changes",
)


class AblationError(RerankError):
    """An ablation that cannot be planned."""


@dataclass(frozen=True, slots=True)
class AblationPlan:
    """One network in full and one for each change.

    Attributes:
        name: Of the file, without its ending.
        config_path: The run's file; its log is found from there.
        full: The configuration that the changes are laid over.
        changes: By name, the configuration with one thing changed.
        overrides: By name, what is changed, as the file has it.
        seeds: Trainings of each configuration.
        split: The pages that are compared: `validation` or `test`.
        limits: Pages of each surface that all of it sees.
    """

    name: str
    config_path: Path
    full: TrainConfig
    changes: dict[str, TrainConfig]
    overrides: dict[str, dict[str, Any]]
    seeds: int
    split: str
    limits: PageLimits

    def configs(self) -> dict[str, TrainConfig]:
        """Return every configuration by name, the full one first."""
        return {FULL: self.full, **self.changes}


def read_plan(path: Path) -> AblationPlan:
    """Read and check an ablation's TOML file.

    Its `config` is relative to the file. `[set]` is laid over it for all parts, each table of
    `[changes]` for one.

    Raises:
        AblationError: When the file itself is wrong, or a change changes nothing.
        ConfigError: When a configuration that it makes is.
    """
    values = read_toml(path)
    _check_keys(values, path)
    seeds, split = values.get("seeds", 1), values.get("split", "validation")
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise AblationError(f"{path.name}: seeds: got {seeds!r}, want 1 or more")
    if split not in _SPLITS:
        raise AblationError(f"{path.name}: split: got {split!r}, want {' or '.join(_SPLITS)}")
    config_path = path.parent / values["config"]
    base = {**read_toml(config_path), **values.get("set", {})}
    full = config_from_values(base, f"of {path.name}")
    overrides: dict[str, dict[str, Any]] = values["changes"]
    changes: dict[str, TrainConfig] = {}
    for name, change in overrides.items():
        made = config_from_values({**base, **change}, f"of {path.name}, {name!r}")
        same = _same_as(made, {FULL: full, **changes})
        if same is not None:
            raise AblationError(
                f"{path.name}: changes {name!r}: got the configuration of {same!r}, want another"
            )
        changes[name] = made
    return AblationPlan(
        name=path.stem,
        config_path=config_path,
        full=full,
        changes=changes,
        overrides=overrides,
        seeds=seeds,
        split=split,
        limits=PageLimits(
            *(_pages(values, name, path) for name in ("train", "validation", "test"))
        ),
    )


def only(plan: AblationPlan, names: tuple[str, ...]) -> AblationPlan:
    """Return the plan with these changes alone.

    Raises:
        AblationError: When it has no such change.
    """
    for name in names:
        if name not in plan.changes:
            raise AblationError(
                f"change: got {name!r}, want one of {', '.join(plan.changes)}"
                f"{nearest(name, plan.changes)}"
            )
    return replace(
        plan,
        changes={name: plan.changes[name] for name in names},
        overrides={name: plan.overrides[name] for name in names},
    )


def sent_to(plan: AblationPlan, uri: str) -> AblationPlan:
    """Return the plan with every run sent to an MLflow address."""
    return replace(
        plan,
        full=replace(plan.full, mlflow=uri),
        changes={name: replace(config, mlflow=uri) for name, config in plan.changes.items()},
    )


def config_key(config: TrainConfig) -> dict[str, Any]:
    """Return all of a configuration that decides its network, and not where its files lie."""
    told = asdict(config)
    return {field.name: told[field.name] for field in fields(config) if field.name not in _NAMES}


_NAMES = ("name", "log", "mlflow")


def _check_keys(values: Mapping[str, Any], path: Path) -> None:
    for key in values:
        if key not in _KEYS:
            raise AblationError(
                f"{path.name}: {key}: got an unknown key, want one of {', '.join(_KEYS)}"
                f"{nearest(key, _KEYS)}"
            )
    if not isinstance(values.get("config"), str):
        raise AblationError(f"{path.name}: config: got none, want the TOML file of a run")
    changes = values.get("changes")
    tables = {"set": values.get("set", {}), "changes": changes}
    if isinstance(changes, dict):
        tables |= {f"changes {name!r}": change for name, change in changes.items()}
    for name, table in tables.items():
        if not isinstance(table, dict) or (not table and name != "set"):
            raise AblationError(f"{path.name}: {name}: got {table!r}, want a table with values")
    if FULL in tables["changes"]:
        raise AblationError(f"{path.name}: changes: got {FULL!r}, want it for what is not changed")


def _same_as(config: TrainConfig, others: Mapping[str, TrainConfig]) -> str | None:
    """Return the name of the one of `others` that would train the same network."""
    key = config_key(config)
    return next((name for name, other in others.items() if config_key(other) == key), None)


def _pages(values: Mapping[str, Any], split: str, path: Path) -> int:
    value = values.get(f"{split}_pages", 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise AblationError(f"{path.name}: {split}_pages: got {value!r}, want 0 (all) or more")
    return value
