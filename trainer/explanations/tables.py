"""An explanation as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.encoding.pageset import Doubles
from trainer.explanations.attribution import Attribution
from trainer.explanations.counterfactual import Counterfactual

_SHOWN_FEATURES = 10
_WIDTH = 20


def format_model(explained: Mapping[str, Any]) -> str:
    """Return the tables of what `explain_run` measured."""
    parts = []
    for surface, found in explained["surfaces"].items():
        parts += [
            _importance(surface, found["importance"]),
            _fidelity(surface, found["fidelity"]),
            _adapters(surface, found["adapters"]),
            _counterfactuals(surface, found["counterfactuals"]),
        ]
    parts.append(
        "Intervals: 95 %, shoppers resampled. A score's change is in standard deviations of its"
        " page's scores."
    )
    return "\n\n".join(parts)


def format_products(
    names: Sequence[str], scores: Doubles, attributions: Mapping[str, Attribution], most: int
) -> str:
    """Return the best products of a page, each with the groups that moved it most.

    Args:
        names: Of each candidate.
        scores: Of each candidate.
        attributions: By method; the first one orders the groups.
        most: Products shown.
    """
    order = sorted(range(len(names)), key=lambda at: (-scores[at], at))[:most]
    first = next(iter(attributions.values()))
    lines = []
    for rank, at in enumerate(order):
        lines.append(f"{rank + 1}. {names[at]}  score {scores[at]:.4f}")
        moved = sorted(range(len(first.groups)), key=lambda row: -abs(first.values[row, at]))
        for row in moved:
            values = "  ".join(
                f"{method} {each.values[row, at]:+.4f}"
                + (f" ±{1.96 * each.errors[row, at]:.4f}" if not each.exact else "")
                for method, each in attributions.items()
            )
            lines.append(f"     {first.groups[row]:{_WIDTH}} {values}")
    return "\n".join(lines)


def format_counterfactual(name: str, found: Counterfactual) -> str:
    """Return in words what would bring a product to the top, or that nothing would."""
    place = f"{name}: place {found.rank_before + 1}"
    if found.found and not found.changes:
        return f"{place}, among the first {found.wanted} as it is"
    if not found.found:
        return (
            f"{place}; nothing within the bounds brings it among the first {found.wanted},"
            f" the best place reached is {found.rank_after + 1} ({found.scored} pages scored)"
        )
    changes = " and ".join(
        f"{feature} from {before:.4g} to {after:.4g}"
        for feature, (before, after) in found.changes.items()
    )
    return (
        f"{place}; {changes} would bring it to place {found.rank_after + 1}"
        f" ({found.cost:.0%} of what may be changed; {found.scored} pages scored)"
    )


def _importance(surface: str, found: Mapping[str, Any]) -> str:
    lines = [f"{surface}: what moves scores, {found['pages']} pages"]
    lines.append(f"  {'group':{_WIDTH}} {'score moved by':22} {'places':>7}  NDCG@10 lost without")
    for group, each in found["groups"].items():
        lines.append(
            f"  {group:{_WIDTH}} {_bracketed(each['moved']):22} {_number(each['places'], 1):>7}"
            f"  {_bracketed(each['ndcg_loss'])}"
        )
    lines.append(f"  {'feature permuted':{_WIDTH + 8}} NDCG@10 lost")
    lines += [
        f"  {name:{_WIDTH + 8}} {_bracketed(found['features'][name]['ndcg_loss'])}"
        for name in list(found["features"])[:_SHOWN_FEATURES]
    ]
    return "\n".join(lines)


def _fidelity(surface: str, found: Mapping[str, Any]) -> str:
    lines = [
        f"{surface}: removing the groups that are named first, {found['products']} products on"
        f" {found['pages']} pages"
    ]
    for name, curve in found["curves"].items():
        steps = "  ".join(_number(each, 3) for each in curve)
        lines.append(f"  {name:{_WIDTH}} score moved after 1, 2, ... groups: {steps}")
    for name, difference in found["against_random"].items():
        lines.append(f"  {name + ' minus random':{_WIDTH + 8}} {_bracketed(difference)}")
    return "\n".join(lines)


def _adapters(surface: str, found: Mapping[str, Any]) -> str:
    lines = [f"{surface}: what is each category's own, {found['pages']} pages with a positive"]
    lines += [
        f"  {what:{_WIDTH}} NDCG@10 with minus without {_bracketed(found['ndcg'][what])},"
        f" Kendall's tau {_number(found['agreement'][what], 3)},"
        f" first ten kept {_number(found['top_10'][what], 3)}"
        for what in found["ndcg"]
    ]
    return "\n".join(lines)


def _counterfactuals(surface: str, found: Mapping[str, Any]) -> str:
    if not found["asked"]:
        return f"{surface}: nothing that can be changed, or no page of ten products"
    means = ", ".join(f"{name} {count}" for name, count in found["by_feature"].items())
    return (
        f"{surface}: of {found['asked']} products in place ten, {found['found']} can be brought"
        f" among the first {found['top']}" + (f", by {means}" if means else "")
    )


def _bracketed(value: Mapping[str, float | None]) -> str:
    if value["mean"] is None or value["low"] is None or value["high"] is None:
        return "-"
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _number(value: Mapping[str, float | None], digits: int) -> str:
    return "-" if value["mean"] is None else f"{value['mean']:.{digits}f}"
