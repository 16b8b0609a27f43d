"""Decides when, and acts: the clock, the tasks and all they conduct."""
