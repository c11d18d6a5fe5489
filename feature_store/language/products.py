"""How a product is read: the same text where vectors are learned from and where one is added.

It names the arrays of a bundle that hold the vectors, and knows no encoder in particular.
"""

import re
from typing import Final

from feature_store.schema import CATEGORY_SEPARATOR

VECTORS: Final = "products/text_vectors"
"""The array of a bundle: one vector of length 1 a product, float16, shape (products, dimension)."""

CENTRES: Final = "products/category_vectors"
"""The array of a bundle: where the products of each node of the category tree lie, float32, shape
(nodes, dimension): the direction of their mean, zeros for a node without products of its own."""

SPACE_FILE: Final = "products/text_space.json"
"""The file of a bundle that names the space of those vectors: `{"space": ...}`."""


_SIZE: Final = re.compile(
    r"[,\s]+\d+(?:[.,]\d+)?\s*"
    r"(?:fl\.?\s?oz|oz|ozs|ct|lb|lbs|g|kg|ml|l|lt|gal|qt|pt|pk|in|inch|ea)\b\.?$",
    re.IGNORECASE,
)


def product_text(title: str, category: str) -> str:
    """What an encoder is given of a product: its title, and the two last levels of its category.

    A size at the end of the title is left out: it says nothing of what the product is. So
    `Kids Cereal, 12.7 oz` of `GROCERY > COLD CEREAL > KIDS CEREAL` is `Kids Cereal. cold cereal`.
    """
    name = _SIZE.sub("", title)
    levels = [level.lower() for level in category.split(CATEGORY_SEPARATOR)[-2:]]
    return ". ".join([name, *(level for level in levels if level and level not in name.lower())])
