"""Products as vectors of the same space as content, so that texts connect what no purchase does.

Products that read the same share an encoding, which is made once.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.codes import category_tree
from feature_store.language.encoder import TextEncoder
from feature_store.language.products import CENTRES, SPACE_FILE, VECTORS, product_text


def write_texts(writer: BundleWriter, items: pl.DataFrame, encoder: TextEncoder) -> None:
    """Write the vector of every product, in the order of `items`."""
    columns = items.select("title", pl.col("category").fill_null("")).iter_rows()
    texts = [product_text(title, category) for title, category in columns]
    distinct = list(dict.fromkeys(texts))
    places = {text: place for place, text in enumerate(distinct)}
    vectors = encoder.encode(distinct).astype(np.float16)
    rows = np.array([places[text] for text in texts], np.intp)
    writer.array(VECTORS, vectors[rows])
    nodes, path, _ = category_tree(items["category"].fill_null("").to_list())
    writer.array(CENTRES, centres(vectors, rows, path, len(nodes)))
    writer.json(SPACE_FILE, {"space": encoder.space})


def centres(
    vectors: NDArray[np.float16], rows: NDArray[np.intp], path: NDArray[np.int32], num_nodes: int
) -> NDArray[np.float32]:
    """The direction of the mean of each node's own products, shape (nodes, dimension).

    `rows` is the vector of each product and `path` its node; zeros for a node without products.
    """
    sums = np.zeros((num_nodes, vectors.shape[1]), np.float32)
    pairs, counts = np.unique(np.column_stack((path, rows)), axis=0, return_counts=True)
    weighted = vectors[pairs[:, 1]].astype(np.float32) * counts[:, None].astype(np.float32)
    np.add.at(sums, pairs[:, 0], weighted)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    directions: NDArray[np.float32] = sums / np.maximum(lengths, np.float32(1e-12))
    return directions
