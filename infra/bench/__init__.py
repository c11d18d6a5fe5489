"""Load tests: a synthetic shop, a load from another process, and what the server makes of it."""
