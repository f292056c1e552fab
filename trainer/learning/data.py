"""The data sets that the learning benchmark knows: where each lies, and how to obtain it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KnownData:
    """A public data set.

    Attributes:
        name: Of its folder below the data folder.
        format: One of the words of `trainer.formats.columns.NAMES`.
        obtain: Where it comes from and under which licence; it is no part of this repository.
        published: What others report on it, and how far it is comparable.
        test_candidates: Of a test page, where the published protocol says it.
        full: Whether the published protocol ranks the whole category.
        same_day: Whether a shopper's events of one day have no order, so that a second table
            leaves them out.
        kappa_runs: Times that rows are dealt to folds for the kappa.
        few_shot: Pages of a target that curves are drawn for.
        source: Of the known data sets, the one that is learned from beside.
    """

    name: str
    format: str
    obtain: str
    published: str
    test_candidates: int = 100
    full: bool = False
    same_day: bool = False
    kappa_runs: int = 0
    few_shot: str = "0,10,100,tenth,all"
    source: str = ""


KNOWN_DATA = (
    KnownData(
        "crowdflower",
        "pairs",
        "Kaggle, `Crowdflower Search Results Relevance` (competition rules): train.csv with a "
        "`category` for each query",
        "quadratic weighted kappa .6819 of the winner's best single model, on all queries; no "
        "NDCG is published",
        kappa_runs=3,
    ),
    KnownData(
        "icecat",
        "judgments",
        "querqy/chorus on GitHub: Icecat products and its ratings (Icecat Open Content License)",
        "none",
        source="crowdflower",
    ),
    KnownData(
        "amazon_afk",
        "interactions",
        "Amazon reviews of Food and Kitchen (UCSD, research only), users in both, with `user`, "
        "`pos`, `asin`, `category`, `ts` and a table of items",
        "ABXI (WWW 2025), mean of 5 seeds, 999 negatives: HR@10 / NDCG@10 Food .3243 / .1971, "
        "Kitchen .2438 / .1427",
        test_candidates=1_000,
        same_day=True,
    ),
    KnownData(
        "amazon_bst",
        "interactions",
        "Amazon reviews of Beauty, Sports and Toys, 5-core (UCSD, research only)",
        "full ranking, NDCG@10 of Beauty / Sports / Toys: sequential item-kNN .0484 / .0241 / "
        ".0596, S3-Rec .0327 / .0204 / .0376, SASRec .0318 / .0192 / .0374",
        full=True,
    ),
    KnownData(
        "amazon_ao",
        "interactions",
        "Amazon reviews of Arts and Office (UCSD, research only), users split",
        "none",
    ),
    KnownData(
        "ciao",
        "ratings",
        "Ciao ratings (ASU, research only) with `user`, `item`, `rating`, `ts`, `category`",
        "none",
    ),
    KnownData(
        "xmrec",
        "run",
        "WSDM Cup 2022 cross-market recommendation (Apache-2.0): runs, qrels and training pairs",
        "NDCG@10 on t1: item-kNN .678 alone, .683 with all markets; GMF .319",
    ),
)


def present(folder: Path) -> list[tuple[KnownData, bool]]:
    """Return every known data set, and whether it lies in `folder`."""
    return [(data, (folder / data.name).is_dir()) for data in KNOWN_DATA]
