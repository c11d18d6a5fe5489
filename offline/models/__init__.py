"""What is learned: each trainer takes arrays and returns fitted arrays, never code."""
