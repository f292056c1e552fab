"""How a simulated shopper looks at a page and what comes of it: the position-based model.

P(click on rank k of product p) = examination(k) * attraction(p) (Richardson et al. 2007;
Craswell et al. 2008; Chuklin, Markov and de Rijke 2015, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClickModel:
    """Examination by rank, and what follows a click.

    Attributes:
        steepness: Examination of rank k, from 1, is k to the power of minus this.
        cart_share: Probability of a cart after a click, times the product's attraction.
        purchase_share: Probability of a purchase after a cart.
    """

    steepness: float = 1.0
    cart_share: float = 0.8
    purchase_share: float = 0.6

    def examination(self, ranks: int) -> Doubles:
        """Return the probability that each of the first `ranks` is looked at."""
        return np.arange(1, ranks + 1, dtype=np.float64) ** -self.steepness

    def clicks(self, attraction: Doubles, random: np.random.Generator) -> Flags:
        """Return which places are clicked, given the attraction of what stands on each."""
        chance = self.examination(attraction.size) * attraction
        return random.random(attraction.size) < chance

    def carts(self, attraction: Doubles, clicked: Flags, random: np.random.Generator) -> Flags:
        """Return which of the clicked places go into the cart."""
        return clicked & (random.random(attraction.size) < self.cart_share * attraction)

    def purchases(self, carts: Flags, random: np.random.Generator) -> Flags:
        """Return which of the carts are bought."""
        return carts & (random.random(carts.size) < self.purchase_share)
