"""Public shops whose files need more than a column mapping to become canonical tables."""
