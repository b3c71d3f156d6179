"""Fixtures for all tests come from plugins with telling names."""

import os
import shutil
import signal
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# Threads of a model that wait for each other sleep instead of spinning: others need the cores.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

# A shell ignores Ctrl-C for what runs in the background, and nohup the end of the terminal, and
# processes that the tests start would inherit that. Handlers are not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# A machine may be busy with other things: how long an example takes is no finding.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples in each run: one that fails belongs to the change that is tested.
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True)
settings.load_profile("repeatable")

# Hypothesis tries the constants of each module of ours that happens to be imported, too. Then the
# examples would depend on what else was changed, and on which tests a process had run before.
is_local = providers.is_local_module_file
providers.is_local_module_file = lambda path: not settings.default.derandomize and is_local(path)

# Packages of their own, with tests of their own: `test_plugins.py` installs and runs them.
collect_ignore = ["packages"]

pytest_plugins = [
    "embedfleet.testing",
    "plugins.distribution",
    "plugins.tcp_proxy",
    "plugins.tls_servers",
    "plugins.managed",
    "plugins.servers",
    "plugins.poolers",
    "plugins.library_venvs",
    "plugins.patience",
    "plugins.privileges",
    "plugins.object_stores",
    "plugins.fleets",
    "plugins.model_changes",
    "plugins.few_locks",
    "plugins.synced_tables",
    "plugins.worker_processes",
    "plugins.command_line",
    "plugins.followed_pages",
    "plugins.webhook_receivers",
    "plugins.provider_processes",
    "plugins.api_fleets",
    "plugins.provider_dialects",
    "plugins.rerank_servers",
    "plugins.batch_api",
    "plugins.provider_batch_fleets",
    "plugins.local_models",
    "plugins.converted_models",
    "plugins.api_workers",
    "plugins.browser",
    "plugins.console_browser",
    "plugins.hosts",
]

# A Python for which there is no torch runs all that does not need it: `make test-light`.
MISSING = [name for name in ("torch", "openvino") if find_spec(name) is None]
MISSING += [name for name in ("chromium", "kubectl") if shutil.which(name) is None]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    left_out = {item for item in items if any(map(item.get_closest_marker, MISSING))}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
