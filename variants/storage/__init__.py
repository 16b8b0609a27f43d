"""Weights kept in other shapes than transformers', each with its writer and its reader."""
