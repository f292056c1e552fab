"""What the README says of measurements is what was measured."""

from __future__ import annotations

from tests.benchmarks.server.section import README, with_section


def test_the_measured_section_is_that_of_the_results():
    readme = README.read_text(encoding="utf-8")
    assert with_section(readme) == readme
