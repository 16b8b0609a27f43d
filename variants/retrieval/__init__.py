"""Texts found by meaning and by words: for RAG, semantic caches and routers."""
