"""How often an A/A test cries out, looked at every day: the sequential test and a plain one.

    python -m tests.benchmarks.loop.same_arms

Both arms are the same. Each of `EXPERIMENTS` runs for `DAYS` days; shoppers come back (gamma
activity) and differ in how they click (beta), so that their searches are not independent. Writes
`results/loop_same_arms.json`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist

import numpy as np

from deploy.loop.experiments import ALPHA, GO_ON, SAMPLE_RATIO_ALPHA, judge
from deploy.loop.quality import Rate, rate_of_sums
from trainer.atomic_text import write_text

EXPERIMENTS, DAYS, SHOPPERS, SEED = 400, 14, 4_000, 8
RESULTS = Path(__file__).parent.parent / "results" / "loop_same_arms.json"


def looks_of(random: np.random.Generator, lift: float = 0.0) -> list[tuple[Rate, Rate]]:
    """Return the cumulative rates of two arms at the end of each day."""
    arm = random.random(SHOPPERS) < 0.5
    activity = random.gamma(1.0, 0.6, SHOPPERS)
    chance = np.clip(random.beta(2.0, 4.0, SHOPPERS) + lift * arm, 0, 1)
    below, above = np.zeros(SHOPPERS), np.zeros(SHOPPERS)
    looks = []
    for _ in range(DAYS):
        made = random.poisson(activity)
        below += made
        above += random.binomial(made, chance)
        came = below > 0
        rates = [
            rate_of_sums(above[part & came], below[part & came], int(below[part].sum()))
            for part in (~arm, arm)
        ]
        looks.append((rates[0], rates[1]))
    return looks


def main() -> None:
    """Run the experiments and write what they said."""
    random = np.random.default_rng(SEED)
    bound = NormalDist().inv_cdf(1 - ALPHA / 2)
    sequential = ratio = peeked = once = found = 0
    for _ in range(EXPERIMENTS):
        looks = looks_of(random)
        verdict = judge(looks, 0.5)
        ratio += verdict.ratio.broken
        sequential += verdict.decision != GO_ON and not verdict.ratio.broken
        plain = [
            abs(b.value - a.value) / math.sqrt(a.variance + b.variance) > bound for a, b in looks
        ]
        peeked += any(plain)
        once += plain[-1]
    for _ in range(EXPERIMENTS):
        found += judge(looks_of(random, 0.05), 0.5).decision == "better"
    write_text(
        RESULTS,
        json.dumps(
            {
                "command": "python -m tests.benchmarks.loop.same_arms",
                "experiments": EXPERIMENTS,
                "days": DAYS,
                "shoppers": SHOPPERS,
                "stated_rate": ALPHA,
                "stated_rate_of_sample_ratio": SAMPLE_RATIO_ALPHA,
                "false_alarms_of_the_sequential_test": _share(sequential),
                "false_alarms_of_the_sample_ratio": _share(ratio),
                "false_alarms_of_a_plain_test_looked_at_daily": _share(peeked),
                "false_alarms_of_a_plain_test_looked_at_once": _share(once),
                "a_lift_of_0.05_found_within_the_days": _share(found),
            },
            indent=1,
        )
        + "\n",
    )


def _share(count: int) -> dict[str, float]:
    """Return a share with its Wilson interval (1927)."""
    z, n = NormalDist().inv_cdf(0.975), EXPERIMENTS
    share = count / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    values = {"share": share, "low": max(centre - half, 0.0), "high": centre + half}
    return {name: round(value, 4) for name, value in values.items()}


if __name__ == "__main__":
    main()
