"""Fixtures for all tests come from plugins with telling names."""

from hypothesis import HealthCheck, settings

# A machine may be busy with other things: how long an example takes is no finding.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples in each run: one that fails belongs to the change that is tested.
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True)
settings.load_profile("repeatable")

pytest_plugins = [
    "plugins.servers",
    "plugins.fleets",
    "plugins.worker_processes",
    "plugins.command_line",
    "plugins.tcp_proxy",
    "plugins.tls_servers",
    "plugins.provider_processes",
    "plugins.api_fleets",
    "plugins.provider_dialects",
    "plugins.batch_api",
    "plugins.lane_fleets",
    "plugins.api_workers",
]
