"""Titles a person can read, from the till's abbreviations of Complete Journey.

The data has no product names; the nearest is the product type in 30 capitals, cut off
and abbreviated: "SFT DRNK SNGL SRV BTL CARB (EX" becomes
"Soft Drink Single Serve Bottle Carbonated".
"""

import re
from typing import Final

_LENGTH_LIMIT: Final = 30
_WORDS: Final = {
    "APPLC": "Appliance",
    "BBQ": "BBQ",
    "BEERALEMALT": "Beer, Ale & Malt",
    "BEV": "Beverage",
    "BKD": "Baked",
    "BN": "Beans",
    "BRD": "Bread",
    "BREAK": "Breakfast",
    "BRKFST": "Breakfast",
    "BTL": "Bottle",
    "BTR": "Butter",
    "CARB": "Carbonated",
    "CATFD": "Cat Food",
    "CHICK": "Chicken",
    "CHIX": "Chicken",
    "CHOC": "Chocolate",
    "CKYS": "Cookies",
    "CND": "Canned",
    "CLEANG": "Cleaning",
    "CNDY": "Candy",
    "CNTRL": "Control",
    "CONC": "Concentrate",
    "CRBNTD": "Carbonated",
    "CRKR": "Crackers",
    "CRMD": "Creamed",
    "CRYSTL": "Crystal",
    "DEOD": "Deodorant",
    "DL": "Deli",
    "DNR": "Dinner",
    "DNRS": "Dinners",
    "DOGFD": "Dog Food",
    "DRNK": "Drink",
    "DRNKING": "Drinking",
    "DRNKS": "Drinks",
    "DRP": "Drops",
    "DRSNG": "Dressing",
    "DSH": "Dish",
    "DVD": "DVD",
    "ELSTC": "Elastic",
    "FD": "Food",
    "FEM": "Feminine",
    "FLVR": "Flavor",
    "FLVRD": "Flavored",
    "FLRL": "Floral",
    "FRZ": "Frozen",
    "FRZN": "Frozen",
    "GDS": "Goods",
    "GRND": "Ground",
    "HBC": "Health & Beauty",
    "HYGN": "Hygiene",
    "IQF": "Frozen",
    "JCE": "Juice",
    "LIQ": "Liquid",
    "LIQS": "Liquids",
    "LOZNG": "Lozenges",
    "MACH": "Machine",
    "MARIN": "Marinade",
    "MISC": "Miscellaneous",
    "MIXS": "Mixes",
    "MLK": "Milk",
    "MLT": "Multi",
    "MNERAL": "Mineral",
    "MNRL": "Mineral",
    "MXS": "Mixes",
    "OCCAS": "Occasion",
    "OTHE": "Other",
    "OTYHER": "Other",
    "PK": "Pack",
    "PKG": "Packaged",
    "PKGD": "Packaged",
    "PKLD": "Pickled",
    "PLSTC": "Plastic",
    "PNT": "Peanut",
    "PREM": "Premium",
    "PREP": "Prepared",
    "PRPCK": "Prepacked",
    "PRSLC": "Presliced",
    "PWDR": "Powder",
    "PWDRS": "Powders",
    "REFRGRATD": "Refrigerated",
    "REG": "Regular",
    "RTD": "Ready-to-Drink",
    "RTS": "Ready-to-Serve",
    "SALD": "Salad",
    "SAUS": "Sausage",
    "SFT": "Soft",
    "SGL": "Single",
    "SHERBTS": "Sherbets",
    "SLC": "Sliced",
    "SNDWCH": "Sandwich",
    "SNGL": "Single",
    "SNKS": "Snacks",
    "SPLY": "Supply",
    "SPRD": "Spread",
    "SRV": "Serve",
    "SS": "Single Serve",
    "STK": "Steak",
    "SUPRT": "Support",
    "SV": "Serve",
    "SW": "Sweet",
    "SYRP": "Syrup",
    "TISS": "Tissue",
    "TORT": "Tortilla",
    "TRANS": "Transfer",
    "TRSH": "Trash",
    "TV": "TV",
    "VAC": "Vacuum",
    "VEG": "Vegetable",
    "VEND": "Vending",
    "WHL": "Whole",
    "WHLSM": "Wholesome",
    "WHSE": "Warehouse",
    "WT": "Weight",
    "WTR": "Water",
}
_SMALL_WORDS: Final = frozenset({"AND", "FOR", "IN", "NOT", "OF", "OR", "TO", "UNDER", "WITH"})
# Types that say something only beside their category.
_QUALIFIERS: Final = frozenset(
    {
        "ADULT",
        "ANGUS",
        "BLENDS",
        "CONES",
        "ECONOMY",
        "ENHANCED",
        "ENTREES",
        "FRESH",
        "KIDS",
        "KITS",
        "LEAN",
        "MAINSTREAM",
        "MISCELLANEOUS",
        "ORGANIC",
        "PAILS",
        "PATTIES",
        "PREMIUM",
        "PRIMAL",
        "REGULAR",
        "RIBS",
        "SPECIALTY",
        "SUPER",
        "TRADITIONAL",
        "VALUE",
    }
)
_UNCLOSED: Final = re.compile(r"\s*\([^)]*$")
_CUT_TAIL: Final = re.compile(r"[\s/&:-]+[A-Z]{1,2}$")
_DANGLING: Final = re.compile(r"[\s/&:,-]+$|\s+(INCL|INCLUDING|EXCP|EX|ALL)$")
_WORD: Final = re.compile(r"(?<![0-9])[A-Z']+")


def product_title(
    product_type: str | None, category: str | None, department: str, size: str | None
) -> str:
    """A product's title, such as "Ice Cream/Milk/Sherbets: Premium, 56 oz"."""
    name = readable(product_type or category or department)
    if product_type in _QUALIFIERS and category is not None:
        name = f"{readable(category)}: {name}"
    return name if size is None else f"{name}, {' '.join(size.lower().split())}"


def readable(text: str) -> str:
    """Capitals from the till in words, abbreviations spelled out and cut-off ends dropped."""
    words = _UNCLOSED.sub("", text)
    if len(text) >= _LENGTH_LIMIT:
        words = _CUT_TAIL.sub("", words)
    words = _DANGLING.sub("", words)
    words = re.sub(r"\s*&\s*", " & ", words)
    words = re.sub(r":\s*", ": ", re.sub(r"\s+", " ", words)).strip()
    return _WORD.sub(_spelled, words) or text.title()


def _spelled(match: re.Match[str]) -> str:
    word = match[0]
    if word in _WORDS:
        return _WORDS[word].replace("_", " ")
    if word in _SMALL_WORDS and match.start() > 0:
        return word.lower()
    return word.capitalize()
