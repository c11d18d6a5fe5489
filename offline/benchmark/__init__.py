"""Public data sets, trained and judged by the product's own models."""
