"""The names of the rankings that every table of the learning benchmark has."""

from __future__ import annotations

CROSSRANK = "CrossRank"
NETWORK = "network, shared"
SINGLE = "network, single category"
TREES = "LightGBM"
SINGLE_TREES = "LightGBM, single category"
RANDOM = "random"
