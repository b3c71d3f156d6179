"""Fixtures for all tests come from plugins with telling names."""

from hypothesis import HealthCheck, settings

# A machine may be busy with other things: how long an example takes is no finding.
settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any_machine")

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
