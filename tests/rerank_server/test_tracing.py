"""Traces of the caller: which headers count, and how they are sampled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.tracing import TraceParent, in_sample, read_traceparent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def test_the_example_of_the_recommendation_is_read():
    assert read_traceparent(f"00-{TRACE}-{SPAN}-01") == TraceParent(TRACE, SPAN, sampled=True)
    assert read_traceparent(f" 00-{TRACE}-{SPAN}-00 ") == TraceParent(TRACE, SPAN, sampled=False)
    assert read_traceparent(f"cc-{TRACE}-{SPAN}-09-later") == TraceParent(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-1",
    ],
)
def test_a_header_that_is_not_valid_is_as_good_as_none(header):
    assert read_traceparent(header) is None


@given(st.text())
def test_no_text_is_an_error(header):
    assert read_traceparent(header) is None or "-" in header


def test_calls_of_one_trace_are_sampled_alike_and_a_larger_share_holds_the_smaller():
    # the last 14 digits are a third of what they can be: 0x55...5 / 16^14
    trace = TraceParent("a" * 18 + "5" * 14, SPAN, sampled=False)
    assert [in_sample(share, trace) for share in (0.0, 0.33, 0.34, 1.0)] == [
        *(False, False),
        *(True, True),
    ]


def test_without_a_trace_the_share_is_kept_by_chance():
    assert not in_sample(0.0, None)
    assert in_sample(1.0, None)
    count = sum(in_sample(0.5, None) for _ in range(2_000))
    assert 800 < count < 1_200  # nine standard deviations
