"""Judges, without I/O: scorers for one answer, comparison of two runs, drift of windows and streams."""
