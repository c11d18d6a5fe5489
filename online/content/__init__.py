"""Content: what there is to read, found for a page, for a user and for a question."""
