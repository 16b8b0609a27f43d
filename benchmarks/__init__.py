"""Measured claims: each prints a ratio against a named reference in the same run."""
