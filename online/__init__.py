"""What is served: a bundle and a request become a slate."""
