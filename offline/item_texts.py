"""Products as vectors of the same space as content, so that texts connect what no purchase does.

Products that read the same share an encoding, which is made once.
"""

import numpy as np
import polars as pl

from feature_store.bundle import BundleWriter
from feature_store.language.encoder import TextEncoder
from feature_store.language.products import SPACE_FILE, VECTORS, product_text


def write_texts(writer: BundleWriter, items: pl.DataFrame, encoder: TextEncoder) -> None:
    """Write the vector of every product, in the order of `items`."""
    columns = items.select("title", pl.col("category").fill_null("")).iter_rows()
    texts = [product_text(title, category) for title, category in columns]
    distinct = list(dict.fromkeys(texts))
    places = {text: place for place, text in enumerate(distinct)}
    vectors = encoder.encode(distinct).astype(np.float16)
    writer.array(VECTORS, vectors[[places[text] for text in texts]])
    writer.json(SPACE_FILE, {"space": encoder.space})
