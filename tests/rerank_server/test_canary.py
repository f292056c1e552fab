"""Who is in a canary, and how two orders of a page compare."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.canary import ChallengerReport, in_canary, rank_agreement
from rerank_server.page import DegradedReason, RankedPage, SearchPage, Timings, retrieval_order

SHOPPERS = [f"shopper {number}" for number in range(20_000)]


def ranked(*ranks: int, score_us: int = 0) -> RankedPage:
    return RankedPage(
        candidate_ids=[f"product {rank}" for rank in ranks],
        retrieval_ranks=np.array(ranks, np.int32),
        bundle_id="b",
        timings=Timings(score_us=score_us, lookup_us=1),
    )


@pytest.mark.parametrize("percent", [0.5, 5.0, 50.0])
def test_a_canary_has_its_share_of_the_shoppers(percent):
    share = sum(in_canary(shopper, percent, "bundle") for shopper in SHOPPERS) / len(SHOPPERS)
    assert share * 100 == pytest.approx(percent, abs=1.0 if percent > 1 else 0.2)


def test_nobody_is_in_at_0_and_everybody_at_100():
    assert not any(in_canary(shopper, 0, "b") for shopper in SHOPPERS)
    assert all(in_canary(shopper, 100, "b") for shopper in SHOPPERS)


def test_an_unknown_shopper_is_never_in():
    assert not in_canary(None, 100, "b")
    assert not in_canary("", 100, "b")


@given(st.text(min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_a_shopper_stays_in_when_the_share_grows(shopper, one, other):
    low, high = sorted((one, other))
    assert in_canary(shopper, high, "b") or not in_canary(shopper, low, "b")


def test_the_answer_is_the_same_on_every_server():
    # fixed by the hash, not by a seed of the process
    inside = [number for number in range(8) if in_canary(f"shopper {number}", 30, "bundle")]
    assert inside == [0, 2, 7]


def test_another_bundle_takes_other_shoppers():
    one = {shopper for shopper in SHOPPERS if in_canary(shopper, 10, "one")}
    other = {shopper for shopper in SHOPPERS if in_canary(shopper, 10, "other")}
    assert len(one & other) / len(SHOPPERS) == pytest.approx(0.01, abs=0.003)


def test_rank_agreement_as_worked_out_by_hand():
    order = np.array([0, 1, 2, 3], np.int32)
    assert rank_agreement(order, order) == 1.0
    assert rank_agreement(order, order[::-1]) == -1.0
    # 0 and 1 exchanged: two differences of 1, 1 - 6 * 2 / (4 * 15)
    assert rank_agreement(order, np.array([1, 0, 2, 3], np.int32)) == pytest.approx(0.8)
    assert math.isnan(rank_agreement(order[:1], order[:1]))


def test_rank_agreement_is_of_the_candidates_that_both_orders_hold():
    one, other = np.array([5, 2, 0, 7], np.int32), np.array([0, 9, 2, 5], np.int32)
    # 5, 2, 0 against 0, 2, 5
    assert rank_agreement(one, other) == -1.0
    assert math.isnan(rank_agreement(one[:1], other[:3]))


@given(st.permutations(range(12)), st.permutations(range(12)))
def test_rank_agreement_is_symmetric_and_within_bounds(one, other):
    first, second = np.array(one, np.int32), np.array(other, np.int32)
    agreement = rank_agreement(first, second)
    assert -1 <= agreement <= 1
    assert agreement == pytest.approx(rank_agreement(second, first))


def test_the_report_adds_up():
    report = ChallengerReport()
    page = SearchPage(["a"])
    late = retrieval_order(page, "b", DegradedReason.DEADLINE, "late", Timings())
    report.count_canary(ranked(0))
    report.count_canary(late)
    report.compare(ranked(0, 1, 2, score_us=9), ranked(0, 1, 2, score_us=19))
    report.compare(ranked(0, 1, 2, score_us=9), ranked(2, 1, 0, score_us=19))
    report.compare(ranked(0, score_us=9), ranked(0, score_us=19))
    report.count_shadow_skipped()
    report.count_shadow_failed()
    figures = report.figures()
    assert (figures.canary_pages, figures.canary_degraded) == (2, 1)
    assert (figures.shadow_pages, figures.shadow_degraded, figures.shadow_skipped) == (3, 1, 1)
    assert figures.rank_agreement == 0.0  # 1 and -1; a page of one candidate has no order
    assert figures.same_first_share == pytest.approx(2 / 3)
    assert figures.current_us == (10, 10)
    assert figures.challenger_us == (20, 20)


def test_a_report_without_pages_has_no_means():
    figures = ChallengerReport().figures()
    assert math.isnan(figures.rank_agreement)
    assert math.isnan(figures.same_first_share)
    assert figures.current_us == (0, 0)
