"""What makes a day of the streams unfit to learn from: robots, lost fields, moved features.

A day is refused for one finding. The days before it that were taken are what it is measured by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from deploy.loop.drift import Drift, name_drift, number_drift
from deploy.loop.search_log import CLICK, LoggedSearch, SearchLog

Doubles = npt.NDArray[np.float64]

MISSING_SHARE = 0.02
# A shopper with more than this share of a day's clicks or searches, and this many times as many
# as the 99th percentile of all, is no shopper.
ROBOT_SHARE, ROBOT_TIMES, ROBOT_LEAST = 0.03, 4.0, 30
CLICK_RATE_TIMES = 3.0
_FIELDS: dict[str, Callable[[LoggedSearch], bool]] = {
    "query_id": lambda search: not search.query_id.startswith("unnamed-"),
    "client_id": lambda search: bool(search.shopper),
    "user_query": lambda search: bool(search.query),
    # the shop's own word of a search, without the gateway, says what was shown and no more
    "products.before": lambda search: bool(
        search.retrieved_ids or not search.shown_ids or not search.by_gateway
    ),
    "products.retrieval_scores": lambda search: (
        len(search.retrieval_scores) == len(search.retrieved_ids)
        and not any(np.isnan(search.retrieval_scores))
    ),
}


def findings(log: SearchLog, before: Sequence[LoggedSearch]) -> list[str]:
    """Return why the day of `log` must not be learned from, each in a sentence; none if it may.

    Args:
        log: The day.
        before: Searches of days that were taken; empty on the first day.
    """
    if not log.searches:
        return ["searches: got none, want at least one"]
    found = _missing_fields(log, before) + robots(log.searches) + _click_rate(log.searches, before)
    found += [
        f"{drift.subject} {drift.name}: got a PSI of {drift.psi:.2f} to the days before"
        f" (p = {drift.p_value:.1g}), want at most 0.25"
        for drift in drifts(log.searches, before)
        if drift.shifted and drift.subject != "score"  # another bundle has other scores
    ]
    return found


def robots(searches: Sequence[LoggedSearch]) -> list[str]:
    """Return a sentence on each shopper who does too much to be one."""
    found = []
    for what, counts in (
        ("searches", Counter(each.shopper for each in searches if each.shopper)),
        ("clicks", _clicks_by_shopper(searches)),
    ):
        total, usual = counts.total(), float(np.quantile([*counts.values(), 1], 0.99))
        usual = min(usual, float(np.median([*counts.values(), 1])) * ROBOT_TIMES)
        found += [
            # by rank: sentences are kept for years, and a name may be a person's
            f"shopper {rank} by {what}: got {count} of {total}, want a person's share"
            for rank, (_, count) in enumerate(counts.most_common(5), start=1)
            if count >= ROBOT_LEAST and count > ROBOT_SHARE * total and count > ROBOT_TIMES * usual
        ]
    return found


def drifts(searches: Sequence[LoggedSearch], before: Sequence[LoggedSearch]) -> list[Drift]:
    """Return how features, scores, categories and queries have moved; empty without a past."""
    if not before:
        return []
    numbers: dict[tuple[str, str], Callable[[LoggedSearch], Sequence[float]]] = {
        # one number a page: the scores of one page go with its query, they are no sample
        ("feature", "retrieval_score"): lambda each: _mean(each.retrieval_scores),
        ("feature", "candidates"): lambda each: (float(len(each.retrieved_ids)),),
        ("score", "score"): lambda each: _mean(each.scores),
        ("query", "characters"): lambda each: (float(len(each.query)),),
    }
    found = [
        number_drift(subject, name, _flat(value, before), _flat(value, searches))
        for (subject, name), value in numbers.items()
    ]
    for subject, text in (
        ("category", lambda each: each.category),
        ("query", lambda each: each.query),
    ):
        found.append(name_drift(subject, "share", [*map(text, before)], [*map(text, searches)]))
    return found


def _missing_fields(log: SearchLog, before: Sequence[LoggedSearch]) -> list[str]:
    found = []
    for name, has in _FIELDS.items():
        missing = sum(not has(each) for each in log.searches) / len(log.searches)
        usual = sum(not has(each) for each in before) / len(before) if before else 0.0
        if missing > usual + MISSING_SHARE:
            found.append(
                f"{name}: got none in {missing:.0%} of the searches, want it as in the days"
                f" before ({usual:.0%})"
            )
    known = sum(len(each.events) for each in log.searches)
    total = max(known + log.orphans + log.unnamed, 1)
    for what, count in (("no query or product id", log.unnamed), ("no search", log.orphans)):
        if count / total > MISSING_SHARE:
            found.append(
                f"events: got {count} of {total} that name {what}, want at most {MISSING_SHARE:.0%}"
            )
    return found


def _click_rate(searches: Sequence[LoggedSearch], before: Sequence[LoggedSearch]) -> list[str]:
    if not before:
        return []
    now, usual = _rate(searches), _rate(before)
    if usual / CLICK_RATE_TIMES <= now <= usual * CLICK_RATE_TIMES:
        return []
    return [
        f"click rate: got {now:.3f} clicked searches of all, want about {usual:.3f} as in the"
        f" days before"
    ]


def _rate(searches: Sequence[LoggedSearch]) -> float:
    return sum(bool(each.products_of(CLICK)) for each in searches) / len(searches)


def _clicks_by_shopper(searches: Sequence[LoggedSearch]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for search in searches:
        if search.shopper:
            counts[search.shopper] += sum(each.action == CLICK for each in search.events)
    return counts


def _mean(values: Sequence[float]) -> Sequence[float]:
    return (float(np.mean(values)),) if values else ()


def _flat(
    value: Callable[[LoggedSearch], Sequence[float]], searches: Sequence[LoggedSearch]
) -> Doubles:
    return np.array([each for search in searches for each in value(search)], np.float64)
