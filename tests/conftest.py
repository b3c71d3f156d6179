"""Fixtures for all tests come from plugins with telling names."""

pytest_plugins = ["plugins.servers", "plugins.fleets", "plugins.worker_processes"]
