"""What simulated shoppers truly want: the ground truth that no ranker and no stream ever sees.

The utility of a product to a shopper who searches for a leaf of the catalogue is

    w_match * [its leaf is the one] + w_own * log(1 + times bought) + w_brand * share of the
    brand among the shopper's purchases + quality(product) - bar

where purchases are the real log's, and quality is the standardised logarithm of a product's sales
plus noise that is drawn once from the seed and that no stream or feature shows. The attraction is
the logistic function of the utility; graded relevance is the attraction.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt

from deploy.loop.shop_tables import ShopTables

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

W_MATCH, W_OWN, W_BRAND, BAR = 1.0, 1.0, 1.5, 2.5
W_SALES, HIDDEN_SPREAD = 1.2, 0.4


class Shoppers:
    """The shoppers of a real log, with a taste taken from what they bought."""

    def __init__(self, tables: ShopTables, seed: int) -> None:
        self.tables = tables
        self._leaves = np.array(tables.leaves)
        self._brands = np.array(tables.brands)
        random = np.random.default_rng((seed, 1))
        count = len(tables.product_ids)
        sales = np.log1p(np.bincount(tables.bought, minlength=count))
        spread = float(sales.std()) or 1.0
        hidden = random.normal(0.0, HIDDEN_SPREAD, count)
        self.quality: Doubles = W_SALES * (sales - sales.mean()) / spread + hidden
        own: defaultdict[int, Counter[int]] = defaultdict(Counter)
        for buyer, product in zip(tables.buyers.tolist(), tables.bought.tolist(), strict=True):
            own[buyer][product] += 1
        self._own = dict(own)
        self._brand_shares = {
            buyer: self._shares_of_brands(products) for buyer, products in own.items()
        }

    def attraction(self, shopper: int, leaf: str, rows: Ints) -> Doubles:
        """Return the true attraction of products to a shopper, each in (0, 1)."""
        own = self._own.get(shopper, Counter())
        shares = self._brand_shares.get(shopper, {})
        times = np.array([own[row] for row in rows.tolist()], np.float64)
        brands = np.array([shares.get(brand, 0.0) for brand in self._brands[rows].tolist()])
        utility = (
            W_MATCH * (self._leaves[rows] == leaf)
            + W_OWN * np.log1p(times)
            + W_BRAND * brands
            + self.quality[rows]
            - BAR
        )
        attraction: Doubles = 1.0 / (1.0 + np.exp(-utility))
        return attraction

    def leaves_of(self, shopper: int) -> tuple[list[str], Doubles]:
        """Return the leaves that a shopper buys of, and the share of each."""
        counts: Counter[str] = Counter()
        for row, times in self._own[shopper].items():
            counts[str(self._leaves[row])] += times
        values = np.array(list(counts.values()), np.float64)
        return list(counts), values / values.sum()

    def _shares_of_brands(self, products: Counter[int]) -> dict[str, float]:
        counts: Counter[str] = Counter()
        for row, times in products.items():
            counts[str(self._brands[row])] += times
        total = sum(counts.values())
        return {brand: count / total for brand, count in counts.items() if brand}
