"""Which rule moved what on one page, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rerank_server.contract.page import Rows

HIDDEN = -1


@dataclass(frozen=True, slots=True)
class PolicyTrace:
    """What the rules did to one page; an entry is one rule that acted on one candidate.

    Attributes:
        policy_version: The version of the rules.
        hidden: How many candidates were left out.
        rules: Names of the rules that acted or fell short, in the order of the policy.
        shortfalls: Per rule, by how many candidates an exposure rule missed its floor or cap
            because the page had no others; 0 otherwise.
        rule_indexes: Index into `rules`, shape (entries,).
        retrieval_ranks: The candidate, by its place in the request, shape (entries,).
        ranks_before: Its place by score alone, from 0, shape (entries,).
        ranks_after: Its place after all rules, before top_k; -1 when hidden, shape (entries,).
    """

    policy_version: str
    hidden: int = 0
    rules: Sequence[str] = ()
    shortfalls: Sequence[int] = ()
    rule_indexes: Sequence[int] = ()
    retrieval_ranks: Sequence[int] = ()
    ranks_before: Sequence[int] = ()
    ranks_after: Sequence[int] = ()


class TraceWriter:
    """Collects what the rules do while they do it."""

    def __init__(self) -> None:
        self._acted: dict[tuple[str, int], None] = {}
        self._shortfalls: dict[str, int] = {}

    def acted(self, rule: str, candidates: Iterable[int]) -> None:
        """Note that `rule` acted on candidates, by retrieval rank."""
        self._acted |= dict.fromkeys((rule, candidate) for candidate in candidates)

    def fell_short(self, rule: str, by: int) -> None:
        """Note that `rule` could not be met on this page."""
        if by > 0:
            self._shortfalls[rule] = self._shortfalls.get(rule, 0) + by

    def trace(self, version: str, names: Sequence[str], before: Rows, after: Rows) -> PolicyTrace:
        """Return the trace.

        Args:
            version: The version of the rules.
            names: Every rule of the policy, in its order.
            before: Retrieval ranks in the order of score alone, every candidate.
            after: Retrieval ranks in the order of the rules, the hidden ones left out.
        """
        rank_before = np.empty(before.shape[0], np.int32)
        rank_before[before] = np.arange(before.shape[0])
        rank_after = np.full(before.shape[0], HIDDEN, np.int32)
        rank_after[after] = np.arange(after.shape[0])
        touched = {rule for rule, _ in self._acted} | set(self._shortfalls)
        rules = [name for name in names if name in touched]
        index = {name: position for position, name in enumerate(rules)}
        entries = sorted((index[rule], candidate) for rule, candidate in self._acted)
        candidates = [candidate for _, candidate in entries]
        return PolicyTrace(
            policy_version=version,
            hidden=int(before.shape[0] - after.shape[0]),
            rules=rules,
            shortfalls=[self._shortfalls.get(name, 0) for name in rules],
            rule_indexes=[rule for rule, _ in entries],
            retrieval_ranks=candidates,
            ranks_before=rank_before[candidates].tolist(),
            ranks_after=rank_after[candidates].tolist(),
        )
