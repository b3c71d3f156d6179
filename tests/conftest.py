"""Fixtures for all tests come from plugins with telling names."""

pytest_plugins = [
    "plugins.servers",
    "plugins.fleets",
    "plugins.worker_processes",
    "plugins.command_line",
    "plugins.tcp_proxy",
    "plugins.provider_processes",
    "plugins.api_fleets",
    "plugins.provider_dialects",
    "plugins.batch_api",
    "plugins.lane_fleets",
    "plugins.api_workers",
]
