"""An explanation as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from trainer.atomic_text import write_text
from trainer.evaluation.evaluation_tables import bracketed, figure
from trainer.explanations import plots
from trainer.explanations.plots import interval_of
from trainer.reports.sheet import templates


def write_page(path: Path, explained: Mapping[str, Any], command: str) -> None:
    """Write the page of what `explain_run` gave, all at once or not at all."""
    environment = templates()
    environment.filters |= {
        "interval": lambda value: bracketed(interval_of(value)),
        "mean": lambda value: figure(interval_of(value).mean),
    }
    surfaces = explained["surfaces"]
    first = next(iter(surfaces.values()))
    drawn = {
        "importance": plots.plot_importance(surfaces),
        "categories": plots.plot_category_importance(first["importance"]),
        "fidelity": plots.plot_fidelity(surfaces),
        "adapters": plots.plot_adapters(first["adapters"], explained["adapter_norms"]),
    }
    page = environment.get_template("explanations.html").render(
        explained=explained,
        first=next(iter(surfaces)),
        plots={name: Markup(plot) for name, plot in drawn.items()},
        similarity=[
            (each["source"], Markup(plots.plot_similarity(each)))
            for each in explained["similarity"]
        ],
        command=command,
    )
    write_text(path, page)
