"""How a product is read: the same text where vectors are learned from and where one is added.

It names the arrays of a bundle that hold the vectors, and knows no encoder in particular.
"""

from typing import Final

from feature_store.schema import CATEGORY_SEPARATOR

VECTORS: Final = "products/text_vectors"
"""The array of a bundle: one vector of length 1 a product, float16, shape (products, dimension)."""

SPACE_FILE: Final = "products/text_space.json"
"""The file of a bundle that names the space of those vectors: `{"space": ...}`."""


def product_text(title: str, category: str) -> str:
    """What an encoder is given of a product: its title, and the last level of its category."""
    kind = category.rpartition(CATEGORY_SEPARATOR)[2]
    return f"{title}. {kind}" if kind and kind.casefold() != title.casefold() else title
