"""Bytes from outside are read or refused, whatever they are."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rerank_server.faults.readers import READERS, read, seeds


@pytest.mark.parametrize("name", READERS)
def test_the_good_input_of_each_reader_is_read(name):
    assert read(name, seeds()[name])


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_bytes_are_read_or_refused(name, data):
    good = seeds()[name]
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 40)))
    pieces = st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'""', b"true", b"9" * 5000]
        ),
    )
    read(name, good[:start] + data.draw(pieces) + good[end:])
