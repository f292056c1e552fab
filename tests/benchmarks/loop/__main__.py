"""Ten daily rounds on simulated traffic, with and without position-bias correction.

    python -m tests.benchmarks.loop run --correction on --out var/loop
    python -m tests.benchmarks.loop run --correction off --out var/loop
    python -m tests.benchmarks.loop draw --out var/loop

Every round: a day of searches in the order of the bundle that serves, then the day is learned
from, and what passes the gate serves from the next day on. `run` goes on where it was stopped.
`draw` shows the same days in retrieval order as well, and writes `results/loop.json` and
`results/loop.png` from the rounds that are there.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.loop.click_model import ClickModel
from deploy.loop.gate import CategoryComparison
from deploy.loop.learning import SMALL_NETWORK, Learner, Round, RoundPlan
from deploy.loop.log_tables import LogTables
from deploy.loop.rankers import BundleOrder, PageOrder, RetrievalOrder
from deploy.loop.retrieval import LeafRetrieval
from deploy.loop.shop_tables import read_shop_tables, write_complete_journey_slice
from deploy.loop.shoppers import Shoppers
from deploy.loop.streams import JsonLineStreams
from deploy.loop.traffic import TrafficPlan, TrafficSimulator
from deploy.loop.training import CandidateBundle
from rerank_server.reranker import Reranker
from tests.benchmarks.loop.drawing import write_results
from trainer.atomic_text import write_text

RESULTS = Path(__file__).parent.parent / "results"
FIRST_DAY = datetime(2018, 1, 2, tzinfo=UTC)
SEED, WINDOW_DAYS = 1, 4
SLICE = {"households": 200, "products_per_category": 60, "categories": 6, "seed": SEED}


class _Serving:
    """Serves what was published last."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.ranker: PageOrder = RetrievalOrder()
        if state.exists():
            self._open(Path(state.read_text(encoding="utf-8")))

    def publish(self, candidate: CandidateBundle) -> None:
        """Serve the bundle from now on: the canary is promoted at once."""
        self._open(candidate.folder)
        write_text(self._state, str(candidate.folder))

    def _open(self, folder: Path) -> None:
        reranker = Reranker.open(folder / "bundle", folder / "products", threads=1, device="cpu")
        self.ranker = BundleOrder(reranker)


def run(out: Path, *, correction: bool, rounds: int, searches: int) -> None:
    """Run the rounds of one arm."""
    shop = out / "shop"
    if not shop.exists():
        write_complete_journey_slice(shop, **SLICE)
    tables = read_shop_tables(shop)
    arm = out / ("corrected" if correction else "uncorrected")
    plan = TrafficPlan(searches=searches, impressions=False, seed=SEED)
    shoppers, first_pass = Shoppers(tables, SEED), LeafRetrieval(tables, SEED)
    simulator = TrafficSimulator(shoppers, first_pass, ClickModel(), plan)
    streams = JsonLineStreams(arm / "streams")
    log = LogTables(arm, shop)
    learner = Learner(
        RoundPlan(
            arm, settings=SMALL_NETWORK, window_days=WINDOW_DAYS, correct_position_bias=correction
        ),
        log,
        streams,
    )
    serving = _Serving(arm / "serving")
    figures = arm / "figures.json"
    rows = json.loads(figures.read_text()) if figures.exists() else []
    if rows:
        simulator.replay(streams, FIRST_DAY, FIRST_DAY + timedelta(days=len(rows)))
    for number in range(len(rows), rounds + 1):
        start = FIRST_DAY + timedelta(days=number)
        served = serving.ranker
        day = simulator.day(start, {"current": (1.0, served)})
        for stream, documents in day.streams.items():
            streams.append(stream, documents)
        result = learner.run(start.date(), served, serving)
        rows.append(_row(number, day.true_ndcg, served.bundle_id, result))
        write_text(figures, json.dumps(rows, indent=1))


def draw(out: Path, *, searches: int) -> None:
    """Write the results of what was run."""
    arms = [json.loads(path.read_text()) for path in sorted(out.glob("*/figures.json"))]
    tables = read_shop_tables(out / "shop")
    plan = TrafficPlan(searches=searches, impressions=False, seed=SEED)
    simulator = TrafficSimulator(
        Shoppers(tables, SEED), LeafRetrieval(tables, SEED), ClickModel(), plan
    )
    retrieval = [
        simulator.day(FIRST_DAY + timedelta(days=n), {"current": (1.0, RetrievalOrder())}).true_ndcg
        for n in range(max(map(len, arms)))
    ]
    bounds = {"retrieval": [round(each, 4) for each in retrieval]}
    write_text(out / "bounds.json", json.dumps(bounds))
    setting = {
        "slice": SLICE,
        "products": len(tables.product_ids),
        "shoppers": len(tables.shoppers),
        "searches_a_day": searches,
        "window_days": WINDOW_DAYS,
        "network": SMALL_NETWORK.splitlines(),
    }
    write_results(out, RESULTS, setting)


def _row(number: int, true_ndcg: float, bundle_id: str, result: Round) -> dict[str, object]:
    overall = result.comparisons[0] if result.comparisons else None
    return {
        "round": number,
        "day": result.day.isoformat(),
        "true_ndcg_at_10": round(true_ndcg, 4),
        "served_by": bundle_id[:12] or "retrieval",
        "decision": result.decision,
        "reasons": list(result.reasons),
        "training_pages": result.candidate.pages if result.candidate else 0,
        "gate": _gate(overall) if overall else [],
        "examination": [round(value, 3) for value in result.examination[:20]],
        "seconds": round(result.duration_s, 1),
    }


def _gate(overall: CategoryComparison) -> list[float]:
    """Return the figures of serving and new bundle, and the interval of their difference."""
    values = (overall.serving, overall.candidate, overall.low, overall.high)
    return [round(value, 4) for value in values]


def main() -> None:
    """Read the arguments and run or draw."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.loop")
    parser.add_argument("what", choices=("run", "draw"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--correction", choices=("on", "off"), default="on")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--searches", type=int, default=300)
    given = parser.parse_args()
    if given.what == "run":
        run(
            given.out,
            correction=given.correction == "on",
            rounds=given.rounds,
            searches=given.searches,
        )
    else:
        draw(given.out, searches=given.searches)


if __name__ == "__main__":
    main()
