"""Steps are numbered, written at once, and say how long they took."""

from __future__ import annotations

import io
import time

import pytest

from deploy.demo.progress import StepDisplay


def test_steps_are_numbered_and_their_lines_stand_under_them():
    out = io.StringIO()
    display = StepDisplay(2, out)
    with display.step("Data", "what there is"):
        assert out.getvalue() == "[1/2] Data: what there is\n"
        display.say("one\ntwo")
    with display.step("Train", "the network"):
        pass
    lines = out.getvalue().splitlines()
    assert lines[1:3] == ["      one", "      two"]
    assert lines[3] == "      done in 0.0 s"
    assert lines[4] == "[2/2] Train: the network"
    assert list(display.seconds) == ["Data", "Train"]


def test_a_step_that_fails_is_not_called_done():
    out = io.StringIO()
    display = StepDisplay(1, out)
    with pytest.raises(ZeroDivisionError), display.step("Data", "what there is"):
        _ = 1 // 0
    assert "done" not in out.getvalue()


def test_a_silent_step_is_said_to_go_on_where_no_bar_is_drawn():
    out = io.StringIO()
    display = StepDisplay(1, out, beat_s=0.02)
    with display.step("Train", "the network"):
        time.sleep(0.2)
    said = [line for line in out.getvalue().splitlines() if "goes on, 0." in line]
    assert len(said) >= 2
    time.sleep(0.05)
    assert out.getvalue().splitlines()[-1].startswith("      done in")


def test_a_step_that_waits_for_people_is_silent():
    out = io.StringIO()
    display = StepDisplay(1, out, beat_s=0.02)
    with display.step("Page", "to look at"):
        display.wait_for_people()
        time.sleep(0.1)
    assert "goes on" not in out.getvalue()
