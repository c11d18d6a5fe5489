"""Two-tower retrieval: a user's history and an item's features, each as one unit vector."""
