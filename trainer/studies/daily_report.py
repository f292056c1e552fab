"""What keeping up costs and gives, as a sheet with one picture and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

from trainer.atomic_text import write_text
from trainer.evaluation.evaluation import plain_json
from trainer.evaluation.evaluation_tables import bracketed
from trainer.reports.sheet import Section, Sheet, Table, write_sheet
from trainer.reports.svg_figure import MUTED, NETWORK, OTHER, svg_figure, svg_text
from trainer.studies.daily import NEVER, SCRATCH, WARM, WAYS, Daily
from trainer.studies.daily_windows import date_of_day
from trainer.training.provenance import command_line, describe_environment

_COLOURS = {NEVER: MUTED, SCRATCH: OTHER, WARM: NETWORK}


def plot_daily(daily: Daily) -> str:
    """NDCG@10 of each way over the steps, for each task, and the seconds spent on training."""
    dates = [date_of_day(day)[5:] for day in daily.plan.starts]
    places = range(len(dates))
    with svg_figure(9.6, 3.0 * ((len(daily.tasks) + 2) // 2)) as (figure, out):
        panels = figure.subplots((len(daily.tasks) + 2) // 2, 2, squeeze=False).ravel().tolist()
        for axes, (name, task) in zip(panels, daily.tasks.items(), strict=False):
            for way in WAYS:
                values = task.by_step[way]
                means = [value.mean for value in values]
                axes.plot(places, means, "o-", color=_COLOURS[way], markersize=3, label=way)
            axes.set_title(f"{name}, NDCG@10")
        axes = panels[len(daily.tasks)]
        for way in WAYS:
            spent = list(accumulate(daily.seconds[way]))
            axes.plot(places, spent, "o-", color=_COLOURS[way], markersize=3, label=way)
        axes.set_title("Seconds of training since the first step, added up")
        axes.legend(loc="best", fontsize=8.5)
        for axes in panels[: len(daily.tasks) + 1]:
            axes.set_xticks(places, dates, rotation=45)
            axes.grid(axis="y")
        for axes in panels[len(daily.tasks) + 1 :]:
            axes.set_axis_off()
    return svg_text(out, "NDCG@10 over days, and the seconds of training spent")


def daily_sheet(daily: Daily) -> Sheet:
    """Return the tables and the picture."""
    plan = daily.plan
    rows, verdicts = [], []
    for name, task in daily.tasks.items():
        for way, value in task.after.items():
            difference = task.differences.get(way)
            told = "" if difference is None else bracketed(difference, signed=True)
            rows.append((name, way, bracketed(value), told))
            verdicts.append("" if difference is None else difference.verdict)
    head = ("task", "way", "NDCG@10 after the first step", f"{WARM} minus it")
    cost = tuple(
        (way, f"{sum(daily.seconds[way]):,.0f}", f"{sum(daily.learned[way][1:]):,}") for way in WAYS
    )
    notes = (
        f"{date_of_day(plan.first_day)} to {date_of_day(plan.end - 1)}, a step each "
        f"{plan.every} days; {daily.pages:,} pages, a share of {plan.page_share:g}.",
        f"Warm start: the newest {plan.window_days} days and {plan.replay_share:.0%} as many older "
        f"pages, learning rate {plan.learning_rate:g}. The network that all ways start with took "
        f"{daily.start_seconds:,.0f} s.",
        command_line(),
    )
    section = Section(
        "Ways to keep up",
        tables=(
            Table(head, tuple(rows), tuple(verdicts)),
            Table(("way", "seconds of training", "pages learned"), cost),
        ),
        plots=(plot_daily(daily),),
    )
    return Sheet("Keeping up", notes, (section,))


def write_daily(path: Path, daily: Daily) -> Sheet:
    """Write the figures as JSON, and beside them the sheet as HTML; return the sheet."""
    told = {
        "command": command_line(),
        "environment": describe_environment(),
        "dates": [date_of_day(day) for day in daily.plan.starts],
        **asdict(daily),
    }
    write_text(path, json.dumps(plain_json(told), indent=1) + "\n")
    sheet = daily_sheet(daily)
    write_sheet(path.with_suffix(".html"), sheet)
    return sheet
