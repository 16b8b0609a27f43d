"""Training methods share their examples, their loop and their forecast of memory here."""
