"""The store: where the rooms meet."""
