"""Coupons, offline: what they are worth and who may have them, from tables to a bundle."""
