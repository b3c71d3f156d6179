"""Embedders behind an API: a batch becomes a fan-out of requests to a provider."""
