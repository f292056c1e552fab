"""Sums and times per key, checked against plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.contract.keyed import KeyMatch

keys = st.integers(-1, 5)


@given(st.lists(keys, max_size=12), st.lists(keys, min_size=1, max_size=8))
def test_key_match_equals_plain_loops(events, candidates):
    match = KeyMatch(np.array(events, np.int64), np.array(candidates, np.int64))
    times = np.arange(len(events), dtype=np.float64)
    weights = times + 1
    for index, key in enumerate(candidates):
        hits = [at for at, event in enumerate(events) if event == key and key > 0]
        assert match.count()[index] == len(hits)
        assert match.total(weights)[index] == sum(weights[at] for at in hits)
        latest, earliest = match.latest(times)[index], match.earliest(times)[index]
        if hits:
            assert (earliest, latest) == (hits[0], hits[-1])
        else:
            assert np.isnan(latest)
            assert np.isnan(earliest)
