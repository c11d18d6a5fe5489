"""Why an item is in a slate or is not: causes, and their words in each language."""
