"""Recorded incidents of a small shop, and the generator that made them."""
