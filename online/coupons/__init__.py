"""Coupons, online: who may have which, what each is worth here and now, and never over budget."""
