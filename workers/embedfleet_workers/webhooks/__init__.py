"""Webhooks: a signed request when a job has ended."""
