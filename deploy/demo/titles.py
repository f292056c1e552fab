"""Readable titles for products and categories that have only codes and shelf shorthand."""

from __future__ import annotations

import re

CATEGORY_TITLES = {
    "alcohol": "Alcohol",
    "baby": "Baby",
    "beverages": "Beverages",
    "bread_sweet": "Bread & sweet bakes",
    "breakfast": "Breakfast",
    "candy": "Candy",
    "condiments_baking": "Condiments & baking",
    "cosmetics": "Cosmetics",
    "dairy_eggs": "Dairy & eggs",
    "deli": "Deli",
    "floral_garden": "Floral & garden",
    "frozen": "Frozen",
    "general_merch": "General merchandise",
    "health": "Health",
    "household": "Household",
    "instore_bakery": "In-store bakery",
    "meat_seafood": "Meat & seafood",
    "nutrition": "Nutrition",
    "packaged_meat": "Packaged meat",
    "pantry_meals": "Pantry meals",
    "personal_care": "Personal care",
    "pet": "Pet",
    "produce": "Produce",
    "snacks": "Snacks",
}

# Shorthand of the Complete Journey catalogue that says one thing wherever it stands.
_SPELLED_OUT = {
    "accss": "accessories",
    "bndges": "bandages",
    "brd": "bread",
    "btl": "bottle",
    "carb": "carbonated",
    "catfd": "cat food",
    "chix": "chicken",
    "choc": "chocolate",
    "cndles": "candles",
    "cntrl": "control",
    "conc": "concentrate",
    "crbntd": "carbonated",
    "deod": "deodorant",
    "dl": "deli",
    "dnrs": "dinners",
    "dogfd": "dog food",
    "drng": "dressing",
    "drnk": "drink",
    "drnking": "drinking",
    "drnkng": "drinking",
    "drnks": "drinks",
    "dsh": "dishes",
    "elstc": "elastic",
    "fd": "food",
    "fem": "feminine",
    "flvr": "flavour",
    "flvrd": "flavoured",
    "frz": "frozen",
    "frzn": "frozen",
    "gds": "goods",
    "grnd": "ground",
    "hygn": "hygiene",
    "incl": "including",
    "jce": "juice",
    "juic": "juice",
    "liq": "liquid",
    "liqs": "liquids",
    "lozng": "lozenges",
    "misc": "assorted",
    "mnrl": "mineral",
    "mxs": "mixes",
    "othe": "other",
    "pickld": "pickled",
    "pk": "pack",
    "pkg": "package",
    "prem": "premium",
    "prod": "products",
    "produc": "products",
    "pwdrs": "powders",
    "refrgratd": "refrigerated",
    "rtd": "ready-to-drink",
    "rts": "ready-to-serve",
    "sald": "salad",
    "saus": "sausage",
    "sft": "soft",
    "sgl": "single",
    "shlfsh": "shellfish",
    "sndwch": "sandwich",
    "sngl": "single",
    "sprd": "spreads",
    "srv": "serve",
    "suprt": "support",
    "sw": "sweet",
    "swt": "sweet",
    "syrp": "syrup",
    "tort": "tortilla",
    "undergarmen": "undergarments",
    "veg": "vegetable",
    "wat": "water",
    "whl": "whole",
    "wt": "weight",
    "xpctrnt": "expectorant",
}
# What the cut after 30 characters leaves of phrases that many products bear.
_PHRASES = {"12/18&15pk can car": "12 to 18 cans", "carb incl": "carbonated"}
_WORD = re.compile(r"[a-z]+")
# The catalogue cuts a type after 30 characters; up to two letters say nothing.
_CUT_AT = 30
_CUT_TAIL = re.compile(r"[\s/&:,-]+\w{0,2}$")
_OPEN_BRACKET = re.compile(r"\s*\([^)]*$")


def category_title(name: str) -> str:
    """The name of a category for people; an unknown code is only tidied."""
    return CATEGORY_TITLES.get(name) or name.replace("_", " ").capitalize() or "Other"


def product_title(kind: str) -> str:
    """A product type such as `frzn boxed vegetables - plain` as a title.

    Shorthand is spelled out, and what a 30-character cut left of a last word is dropped.
    """
    text = kind.strip()
    for phrase, meaning in _PHRASES.items():
        text = text.replace(phrase, meaning)
    if len(text) >= _CUT_AT - 1:
        text = _CUT_TAIL.sub("", text) or text
    text = _OPEN_BRACKET.sub("", text).replace(".", " ") or text
    text = _WORD.sub(lambda word: _SPELLED_OUT.get(word[0], word[0]), text)
    text = re.sub(r"\s*/\s*", " / ", text)
    text = re.sub(r"\s*&\s*", " & ", text)
    text = re.sub(r"\s*:\s*", ": ", text)
    text = re.sub(r"\s+", " ", text).strip(" -/:,")
    return text[:1].upper() + text[1:]
