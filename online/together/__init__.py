"""Many queries of one kind as columns: the answers of one by one, at a fraction of the cost."""
