"""The space that `tune` searches: a range or a list of choices for each key, from a TOML file.

```toml
[space]
learning_rate = { low = 5e-4, high = 5e-3, log = true }
rank = { low = 1, high = 8 }                    # whole numbers, since both ends are
hidden = { choices = [[128, 64], [256, 128]] }

[trees]                                         # the same for LightGBM
num_leaves = { choices = [15, 31, 63, 127] }
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rerank_server.contract.errors import RerankError, nearest
from trainer.config import TrainConfig, read_toml

if TYPE_CHECKING:
    import optuna

Drawn: TypeAlias = dict[str, Any]

_RANGE_KEYS = ("low", "high", "log", "step")
# What a trial cannot choose: what it is, what it learns from, and what it is judged on.
_FIXED = (
    "name",
    "log",
    "mlflow",
    "seed",
    "objectives",
    "objective",
    "surfaces",
    "categories",
    "validation_pages",
    "max_pages",
    "start_from",
    "held_out",
)
TREE_PARAMETERS = (
    "learning_rate",
    "num_leaves",
    "max_depth",
    "min_data_in_leaf",
    "min_sum_hessian_in_leaf",
    "lambda_l1",
    "lambda_l2",
    "min_gain_to_split",
    "feature_fraction",
    "bagging_fraction",
    "lambdarank_truncation_level",
    "cat_smooth",
    "cat_l2",
    "max_bin",
)


class SearchSpaceError(RerankError):
    """A search space that cannot be searched."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones when both are whole."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, name: str, trial: optuna.trial.Trial) -> Any:  # noqa: ANN401  int or float
        """Return what the trial draws."""
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def holds(self, value: Any) -> bool:  # noqa: ANN401  any setting
        """Tell whether a value is one that could be drawn."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return self.low <= value <= self.high and math.isclose(steps, round(steps), abs_tol=1e-9)


@dataclass(frozen=True, slots=True)
class Choices:
    """One of several values of any kind."""

    values: tuple[Any, ...]

    def draw(self, name: str, trial: optuna.trial.Trial) -> Any:  # noqa: ANN401  as the file has it
        """Return what the trial draws; the study keeps each choice as JSON."""
        return json.loads(trial.suggest_categorical(name, [json.dumps(v) for v in self.values]))

    def holds(self, value: Any) -> bool:  # noqa: ANN401  any setting
        """Tell whether a value is among the choices."""
        return json.dumps(value) in {json.dumps(choice) for choice in self.values}


Space: TypeAlias = dict[str, Range | Choices]


@dataclass(frozen=True, slots=True)
class SearchSpaces:
    """What a file holds: the networks' space and the trees'."""

    network: Space
    trees: Space


def read_spaces(path: Path) -> SearchSpaces:
    """Read and check a search space.

    Raises:
        ConfigError: When the file cannot be read.
        SearchSpaceError: All that is wrong with it, at once.
    """
    values = read_toml(path)
    known = tuple(field.name for field in fields(TrainConfig) if field.name not in _FIXED)
    wrong = [
        f"{key}: got an unknown table, want [space] or [trees]{nearest(key, ('space', 'trees'))}"
        for key in values
        if key not in {"space", "trees"}
    ]
    network, wrong_there = _space(values.get("space", {}), "space", known)
    trees, wrong_here = _space(values.get("trees", {}), "trees", TREE_PARAMETERS)
    wrong += [*wrong_there, *wrong_here]
    if not wrong and not network and not trees:
        wrong = ["got no table with keys, want [space] or [trees]"]
    if wrong:
        raise SearchSpaceError(f"search space {path.name}: " + "; ".join(wrong))
    return SearchSpaces(network, trees)


def draw(space: Space, trial: optuna.trial.Trial) -> Drawn:
    """Return what a trial draws of every key."""
    return {name: entry.draw(name, trial) for name, entry in space.items()}


def drawn_from(space: Space, parameters: Mapping[str, Any]) -> Drawn:
    """Return the values by key of a study's parameters, where choices are JSON."""
    return {
        name: json.loads(parameters[name]) if isinstance(entry, Choices) else parameters[name]
        for name, entry in space.items()
    }


def as_parameters(space: Space, values: Drawn) -> dict[str, Any] | None:
    """Return values by key as a study keeps them; None when one is missing or out of its range."""
    if any(name not in values or not entry.holds(values[name]) for name, entry in space.items()):
        return None
    return {
        name: json.dumps(values[name]) if isinstance(entry, Choices) else values[name]
        for name, entry in space.items()
    }


def space_to_json(space: Space) -> dict[str, Any]:
    """Return plain JSON values, by which two spaces are told apart."""
    return {
        name: {"choices": list(entry.values)}
        if isinstance(entry, Choices)
        else {key: getattr(entry, key) for key in _RANGE_KEYS if getattr(entry, key) is not None}
        for name, entry in space.items()
    }


def _space(
    table: Any,  # noqa: ANN401  TOML holds any value
    where: str,
    known: tuple[str, ...],
) -> tuple[Space, list[str]]:
    """Return a table's space and what is wrong with it."""
    if not isinstance(table, dict):
        return {}, [f"{where}: got {table!r}, want a table"]
    space: Space = {}
    wrong = []
    for name, entry in table.items():
        if name in _FIXED and where == "space":
            wrong.append(f"{where}.{name}: got a key that trials cannot choose, want another")
        elif name not in known:
            wrong.append(
                f"{where}.{name}: got an unknown key, want one of {', '.join(known)}"
                f"{nearest(name, known)}"
            )
        else:
            made = _entry(entry)
            if isinstance(made, str):
                wrong.append(f"{where}.{name}: {made}")
            else:
                space[name] = made
    return space, wrong


def _entry(value: Any) -> Range | Choices | str:  # noqa: ANN401  TOML holds any value
    """Return what an entry says, or what is wrong with it."""
    want = "want { low = .., high = .. } with log or step, or { choices = [..] }"
    if not isinstance(value, dict):
        return f"got {value!r}, {want}"
    if set(value) == {"choices"}:
        choices = value["choices"]
        if not isinstance(choices, list) or not choices:
            return f"choices: got {choices!r}, want a list of at least one"
        if len({json.dumps(choice) for choice in choices}) != len(choices):
            return f"choices: got {choices!r}, want each once"
        return Choices(tuple(choices))
    if not {"low", "high"} <= set(value) <= set(_RANGE_KEYS):
        return f"got {', '.join(value) or 'nothing'}, {want}"
    return _range(**value)


def _range(low: Any, high: Any, log: Any = False, step: Any = None) -> Range | str:  # noqa: ANN401, FBT002
    numbers = [low, high] if step is None else [low, high, step]
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers) or not (
        isinstance(log, bool)
    ):
        return f"got {numbers!r} and log {log!r}, want numbers, and log true or false"
    if not low < high:
        return f"got low {low} and high {high}, want low below high"
    if log and low <= 0:
        return f"low: got {low} with log, want more than 0"
    if step is not None and (log or not 0 < step <= high - low):
        return f"step: got {step}, want more than 0, at most high - low, and not with log"
    if step is not None and isinstance(low, int) and isinstance(high, int) and step != int(step):
        return f"step: got {step} between whole numbers, want a whole one"
    return Range(low, high, log, step)
