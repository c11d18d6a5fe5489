"""What changed in the shop since the bundle was made: a small delta that stands beside it."""
