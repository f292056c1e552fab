"""The pages of a shop that has baskets but no search log: searches and promotions.

A page stands for what the shopper of a basket might have typed; see the notes on the Complete
Journey task. Which queries a basket gets is told by a hash, so no page depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.logs.log_arrays import InteractionArrays, ProductArrays
from trainer.logs.log_config import LogConfig
from trainer.logs.pages import Requests
from trainer.logs.promotions import PromotionArrays
from trainer.logs.retrieval import MatchGroups
from trainer.logs.windows import expand_slices

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]

SURFACES = ("search", "promotion", "home")
SEARCH, PROMOTION, HOME = range(3)


@dataclass(frozen=True, slots=True)
class Baskets:
    """Interactions of one shopper at one time (or on one day), after the history window.

    Attributes:
        start: First interaction, int64, shape (baskets,).
        end: One past the last.
        split: 0 train, 1 validation, 2 test, int8.
        order: Pseudo-random rank key for sampling, uint64; depends on shopper and time alone.
    """

    start: Ints
    end: Ints
    split: npt.NDArray[np.int8]
    order: npt.NDArray[np.uint64]


def find_baskets(
    interactions: InteractionArrays, config: LogConfig, *, by_day: bool = False
) -> Baskets:
    """Return the baskets at or after `train_from`, in the order of the interactions.

    Args:
        interactions: The coded interactions.
        config: Seed and split times.
        by_day: Take what a shopper took on one day as one basket.
    """
    shopper, time = interactions.shopper, interactions.time
    moment = interactions.day if by_day else time
    starts = np.flatnonzero(
        np.concatenate([[True], (shopper[1:] != shopper[:-1]) | (moment[1:] != moment[:-1])])
    )
    ends = np.concatenate([starts[1:], [interactions.count]])
    split = np.searchsorted(np.array(config.split_times), time[starts], side="right") - 1
    used = split >= 0
    starts = starts[used]
    return Baskets(
        start=starts,
        end=ends[used],
        split=split[used].astype(np.int8),
        order=hash_integers(config.seed, shopper[starts], time[starts]),
    )


def hash_integers(seed: int, *columns: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.uint64]:
    """Return a uniform 64-bit hash of each row of integers (splitmix64, Steele et al. 2014)."""
    state = np.full(columns[0].shape, seed, np.uint64)
    for column in columns:
        state = (state ^ column.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


@dataclass(frozen=True, slots=True)
class QueryCatalogue:
    """The queries that the catalogue can answer.

    Attributes:
        queries: Query texts, ascending.
        groups: Which products match.
        query: Query of each group, int32, shape (groups,).
        category: Task category of each group, int32, shape (groups,).
    """

    queries: list[str]
    groups: MatchGroups
    query: Rows
    category: Rows


def list_queries(products: ProductArrays) -> QueryCatalogue:
    """Return the broad query (middle category) and the narrow one (leaf) of every product.

    A query matches the products of one task category that bear its text at its level, so a page
    holds one category.
    """
    paths = [record["category_path"] for record in products.records]
    narrow = [path[-1] for path in paths]
    broad = [path[-2] if len(path) > 1 else path[-1] for path in paths]
    queries = sorted({*narrow, *broad})
    code = {text: index for index, text in enumerate(queries)}
    width = len(queries)
    keys = np.array(
        [
            [(kind * (len(products.categories) + 1) + category) * width + code[text]
             for category, text in zip(products.category.tolist(), texts, strict=True)]
            for kind, texts in enumerate((broad, narrow))
        ],
        np.int64,
    )  # fmt: skip
    distinct, inverse = np.unique(keys, return_inverse=True)
    group = inverse.reshape(keys.shape).astype(np.int32)
    order = np.lexsort((np.tile(np.arange(products.count), 2), group.ravel()))
    sizes = np.bincount(group.ravel(), minlength=len(distinct))
    groups = MatchGroups(
        of_broad=group[0],
        of_narrow=group[1],
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        members=(order % products.count).astype(np.int32),
    )
    query = (distinct % width).astype(np.int32)
    category = (distinct // width % (len(products.categories) + 1)).astype(np.int32)
    return QueryCatalogue(queries, groups, query, category)


def search_requests(
    interactions: InteractionArrays, baskets: Baskets, catalogue: QueryCatalogue, config: LogConfig
) -> Requests:
    """Return the sampled searches: one per basket and broad query that it answers.

    At even odds the query is the broad one itself, or one of the narrow ones below it that the
    basket answers.
    """
    owner, line = basket_lines(baskets)
    row = interactions.row[line]
    broad, narrow = catalogue.groups.of_broad[row], catalogue.groups.of_narrow[row]
    start = baskets.start[owner]
    coin = hash_integers(
        config.seed + 1, interactions.shopper[start], interactions.time[start], broad
    )
    rank = hash_integers(
        config.seed + 2, interactions.shopper[start], interactions.time[start], narrow
    )
    order = np.lexsort((rank, broad, owner))
    first = np.ones(order.shape, np.bool_)
    first[1:] = (np.diff(owner[order]) != 0) | (np.diff(broad[order]) != 0)
    chosen = order[first]
    owner = owner[chosen]
    scope = np.where(coin[chosen] & np.uint64(1), broad[chosen], narrow[chosen])
    kept = sample_baskets(baskets, owner, config.search_pages)
    owner, scope = owner[kept], scope[kept]
    return make_requests(
        interactions, baskets, owner,
        surface=SEARCH, scope=scope, query=catalogue.query[scope],
        category=catalogue.category[scope],
    )  # fmt: skip


def promotion_requests(
    interactions: InteractionArrays,
    baskets: Baskets,
    promotions: PromotionArrays,
    config: LogConfig,
) -> Requests:
    """Return one request for each sampled basket that holds a promoted product."""
    owner, line = basket_lines(baskets)
    start = baskets.start[owner]
    promoted = promotions.find(
        interactions.period[start], interactions.place[start], interactions.row[line]
    )[1]
    owner = np.unique(owner[promoted])
    owner = owner[sample_baskets(baskets, owner, config.promotion_pages)]
    none = np.full(owner.shape, -1, np.int32)
    return make_requests(
        interactions, baskets, owner,
        surface=PROMOTION, scope=none, query=none, category=np.zeros_like(none),
    )  # fmt: skip


def sample_baskets(baskets: Baskets, owner: Ints, limits: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return which pages to keep: whole baskets, until a split has its limit of pages.

    Args:
        baskets: All baskets.
        owner: Basket of each page, ascending.
        limits: Most pages per split; the basket that would pass it is left out with all after it.
    """
    pages = np.bincount(owner, minlength=len(baskets.start))
    kept = np.zeros(len(baskets.start), np.bool_)
    for split, limit in enumerate(limits):
        members = np.flatnonzero((baskets.split == split) & (pages > 0))
        members = members[np.argsort(baskets.order[members], kind="stable")]
        kept[members[np.cumsum(pages[members]) <= limit]] = True
    return kept[owner]


def basket_lines(baskets: Baskets) -> tuple[Ints, Ints]:
    """Return, for every interaction of the baskets, its basket and its position."""
    return expand_slices(baskets.start, baskets.end - baskets.start)


def make_requests(
    interactions: InteractionArrays,
    baskets: Baskets,
    owner: Ints,
    *,
    surface: int,
    scope: Rows,
    query: Rows,
    category: Rows,
) -> Requests:
    """Return one request per entry of `owner`, the basket that answers it."""
    start = baskets.start[owner]
    return Requests(
        shopper=interactions.shopper[start],
        time=interactions.time[start],
        place=interactions.place[start],
        period=interactions.period[start],
        query=query,
        surface=np.full(owner.shape, surface, np.int8),
        split=baskets.split[owner],
        category=category,
        scope=scope,
        basket_start=start,
        basket_end=baskets.end[owner],
    )
