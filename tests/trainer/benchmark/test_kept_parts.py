"""Parts of a long computation: kept once done, computed anew when what they are made of changes."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.benchmark.kept_parts import Part, compute_parts


class Computed:
    """Counts how often each part was computed."""

    def __init__(self):
        self.names = []

    def part(self, name, made_from=1, value=1.0):
        def compute():
            self.names.append(name)
            if value is None:
                raise KeyboardInterrupt
            return {"scores": np.full(3, value), "other task": np.arange(2)}, {"steps": 7}

        return Part(name, made_from, compute)


def test_a_finished_part_is_read_back_with_where_it_came_from(tmp_path):
    computed = Computed()
    (first,) = compute_parts([computed.part("trees, Search")], tmp_path, progress=False).values()
    (again,) = compute_parts([computed.part("trees, Search")], tmp_path, progress=False).values()
    assert computed.names == ["trees, Search"]
    np.testing.assert_array_equal(again.arrays["scores"], first.arrays["scores"])
    assert set(again.arrays) == {"scores", "other task"}
    assert again.facts == {"steps": 7}
    assert again.origin == first.origin
    assert first.origin.name == "trees, Search"
    assert first.origin.finished.endswith("Z")


def test_what_a_part_is_made_of_decides_whether_it_is_computed_anew(tmp_path):
    computed = Computed()
    compute_parts([computed.part("a", {"rounds": 1}, 1.0)], tmp_path, progress=False)
    got = compute_parts([computed.part("a", {"rounds": 2}, 5.0)], tmp_path, progress=False)
    assert computed.names == ["a", "a"]
    assert got["a"].arrays["scores"].tolist() == [5.0] * 3


def test_a_call_that_was_stopped_goes_on_with_the_first_part_that_is_missing(tmp_path):
    computed = Computed()
    with pytest.raises(KeyboardInterrupt):
        compute_parts(
            [computed.part("a"), computed.part("b", value=None)], tmp_path, progress=False
        )
    got = compute_parts([computed.part("a"), computed.part("b")], tmp_path, progress=False)
    assert computed.names == ["a", "b", "b"]
    assert list(got) == ["a", "b"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npz", ".npz"]


def test_a_file_that_was_cut_is_computed_anew(tmp_path):
    computed = Computed()
    compute_parts([computed.part("a")], tmp_path, progress=False)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:50])
    compute_parts([computed.part("a")], tmp_path, progress=False)
    assert computed.names == ["a", "a"]


def test_each_part_and_its_cost_is_named_as_it_goes(tmp_path, capsys):
    compute_parts([Computed().part("trees, Search")], tmp_path, progress=True)
    compute_parts([Computed().part("trees, Search")], tmp_path, progress=True)
    told = capsys.readouterr()
    assert "trees, Search: 0 s" in told.out
    assert "trees, Search: kept from 20" in told.out
    assert "trees, Search" in told.err
