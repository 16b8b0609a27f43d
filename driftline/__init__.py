"""Driftline watches large language models after they have been optimized."""

__version__ = "0.1.0"
