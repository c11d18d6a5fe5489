"""The serving processes: one that answers, and one that keeps them running and up to date."""
