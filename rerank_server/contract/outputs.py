"""What each column of the scorer's output means: a probability, or an amount in its own unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from rerank_server.contract.errors import BundleError

OutputKind = Literal["probability", "gain_share", "amount"]


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """What the scorer serves for one objective. A larger number is always more of it.

    Attributes:
        name: The objective.
        type: What its label is: binary, graded, count, value or dwell.
        kind: `probability`, in [0, 1]; `gain_share`, the expected gain as a share of the largest,
            in [0, 1]; or `amount`, the expected amount in `unit`, >= 0.
        unit: Of an amount, such as `EUR` or `seconds`; empty where it has none.
        meaning: In words.
    """

    name: str
    type: str
    kind: OutputKind
    unit: str
    meaning: str


def outputs_to_json(outputs: Sequence[ObjectiveOutput]) -> list[dict[str, str]]:
    """Return outputs as plain JSON values."""
    return [asdict(output) for output in outputs]


def outputs_from_json(value: Any, objectives: Sequence[str]) -> tuple[ObjectiveOutput, ...]:  # noqa: ANN401  JSON
    """Read what `outputs_to_json` wrote; None gives probabilities, as older bundles serve.

    Raises:
        BundleError: When it is not one output for each of `objectives`, in their order.
    """
    if value is None:
        return tuple(
            ObjectiveOutput(name, "binary", "probability", "", f"probability of {name}")
            for name in objectives
        )
    try:
        outputs = tuple(ObjectiveOutput(**item) for item in value)
    except TypeError as error:
        raise BundleError(f"objectives: got {error}, want what each objective serves") from error
    names = [output.name for output in outputs]
    if names != list(objectives):
        raise BundleError(f"objectives: got {names}, want {list(objectives)} as in the schema")
    for output in outputs:
        if output.kind not in get_args(OutputKind):
            raise BundleError(
                f"objectives[{output.name!r}]: got kind {output.kind!r}, want one of"
                f" {', '.join(get_args(OutputKind))}"
            )
    return outputs
