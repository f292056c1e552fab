"""The 24 task categories of the Complete Journey catalogue, and what is not for a search page.

Departments, with GROCERY and DRUG GM split by `product_category`.
"""

from __future__ import annotations

DEPARTMENT_CATEGORIES: dict[str, str] = {
    "PRODUCE": "produce",
    "SALAD BAR": "deli",
    "MEAT-PCKGD": "packaged_meat",
    "MEAT": "meat_seafood",
    "SEAFOOD": "meat_seafood",
    "SEAFOOD-PCKGD": "meat_seafood",
    "DELI": "deli",
    "PASTRY": "instore_bakery",
    "NUTRITION": "nutrition",
    "COSMETICS": "cosmetics",
    "FLORAL": "floral_garden",
    "GARDEN CENTER": "floral_garden",
    "SPIRITS": "alcohol",
}

# What is left of GROCERY is pantry, what is left of DRUG GM is general merchandise.
REMAINING_CATEGORIES: dict[str, str] = {"GROCERY": "pantry_meals", "DRUG GM": "general_merch"}

PRODUCT_CATEGORIES: dict[str, tuple[str, ...]] = {
    "dairy_eggs": (
        "FLUID MILK PRODUCTS",
        "CHEESE",
        "YOGURT",
        "EGGS",
        "MILK BY-PRODUCTS",
        "MARGARINES",
        "BUTTER",
        "MISC. DAIRY",
    ),
    "beverages": (
        "SOFT DRINKS",
        "REFRGRATD JUICES/DRNKS",
        "CANNED JUICES",
        "COFFEE",
        "ISOTONIC DRINKS",
        "WATER - CARBONATED/FLVRD DRINK",
        "PWDR/CRYSTL DRNK MX",
        "TEAS",
        "COCOA MIXES",
        "NEW AGE",
    ),
    "frozen": (
        "FRZN MEAT/MEAT DINNERS",
        "FROZEN PIZZA",
        "ICE CREAM/MILK/SHERBTS",
        "FRZN NOVELTIES/WTR ICE",
        "FRZN VEGETABLE/VEG DSH",
        "FRZN BREAKFAST FOODS",
        "FRZN POTATOES",
        "FROZEN PIE/DESSERTS",
        "FROZEN BREAD/DOUGH",
        "FRZN JCE CONC/DRNKS",
        "FRZN ICE",
        "FRZN FRUITS",
        "FROZEN CHICKEN",
        "FRZN SEAFOOD",
    ),
    "condiments_baking": (
        "CONDIMENTS/SAUCES",
        "SALD DRSNG/SNDWCH SPRD",
        "BAKING MIXES",
        "BAKING NEEDS",
        "PNT BTR/JELLY/JAMS",
        "SPICES & EXTRACTS",
        "SUGARS/SWEETNERS",
        "DRY MIX DESSERTS",
        "SHORTENING/OIL",
        "PICKLE/RELISH/PKLD VEG",
        "FLOUR & MEALS",
        "OLIVES",
        "CANNED MILK",
        "SYRUPS/TOPPINGS",
    ),
    "snacks": (
        "BAG SNACKS",
        "CRACKERS/MISC BKD FD",
        "COOKIES/CONES",
        "WAREHOUSE SNACKS",
        "SNACK NUTS",
    ),
    "bread_sweet": ("BAKED BREAD/BUNS/ROLLS", "BAKED SWEET GOODS", "REFRGRATD DOUGH PRODUCTS"),
    "breakfast": (
        "COLD CEREAL",
        "HOT CEREAL",
        "CONVENIENT BRKFST/WHLSM SNACKS",
        "MOLASSES/SYRUP/PANCAKE MIXS",
    ),
    "household": (
        "FD WRAPS/BAGS/TRSH BG",
        "BATH TISSUES",
        "PAPER TOWELS",
        "PAPER HOUSEWARES",
        "HOUSEHOLD CLEANG NEEDS",
        "LAUNDRY DETERGENTS",
        "FACIAL TISS/DNR NAPKIN",
        "DISHWASH DETERGENTS",
        "AIR CARE",
        "LAUNDRY ADDITIVES",
        "BLEACH",
        "BROOMS AND MOPS",
        "IRONING AND CHEMICALS",
        "INSECTICIDES",
        "DISPOSIBLE FOILWARE",
    ),
    "candy": ("CANDY - CHECKLANE", "CANDY - PACKAGED"),
    "pet": ("CAT FOOD", "DOG FOODS", "CAT LITTER", "PET CARE SUPPLIES", "BIRD SEED"),
    "baby": (
        "BABY FOODS",
        "DIAPERS & DISPOSABLES",
        "BABY HBC",
        "INFANT FORMULA",
        "INFANT CARE PRODUCTS",
    ),
    "alcohol": ("BEERS/ALES", "DOMESTIC WINE", "IMPORTED WINE", "MISC WINE", "LIQUOR"),
    "health": (
        "COLD AND FLU",
        "ANALGESICS",
        "FIRST AID PRODUCTS",
        "VITAMINS",
        "DIETARY AID PRODUCTS",
        "ANTACIDS",
        "SINUS AND ALLERGY",
        "LAXATIVES",
        "EYE AND EAR CARE PRODUCTS",
        "ADULT INCONTINENCE",
        "FAMILY PLANNING",
        "FOOT CARE PRODUCTS",
        "SMOKING CESSATIONS",
        "GLASSES/VISION AIDS",
        "HOME HEALTH CARE",
        "PHARMACY",
    ),
    "personal_care": (
        "HAIR CARE PRODUCTS",
        "ORAL HYGIENE PRODUCTS",
        "SOAP - LIQUID & BAR",
        "FEMININE HYGIENE",
        "DEODORANTS",
        "SHAVING CARE PRODUCTS",
        "HAND/BODY/FACIAL PRODUCTS",
        "HAIR CARE ACCESSORIES",
        "SUNTAN",
        "ETHNIC PERSONAL CARE",
        "PERSONAL CARE APPLIANCES",
        "MISCELLANEOUS HBC",
        "NATURAL HBC",
    ),
}

TOBACCO = ("CIGARETTES", "TOBACCO OTHER", "CIGARS")
COUPONS_AND_DEPOSITS = ("COUPON/MISC ITEMS", "COUPON", "BOTTLE DEPOSITS")
SUPPLIES = ("PROD SUPPLIES", "DELI SUPPLIES", "MEAT SUPPLIES")
NEWS_AND_SERVICES = (
    "MAGAZINE",
    "NEWSPAPER",
    "TICKETS",
    "PREPAID WIRELESS&ACCESSORIES",
    "LONG DISTANCE CALLING CARDS",
    "IN-STORE PHOTOFINISHING",
    "OVERNIGHT PHOTOFINISHING",
)

CATEGORY_OF: dict[str, str] = {
    name: category for category, names in PRODUCT_CATEGORIES.items() for name in names
}
