"""Products for what a shopper typed into the shop's search."""
