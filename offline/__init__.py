"""What is learned: events become tables, tables become a bundle, and the bundle is judged."""
