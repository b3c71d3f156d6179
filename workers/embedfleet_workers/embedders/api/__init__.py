"""Embedders behind an API: one engine, and an adapter for each provider's dialect."""
