"""Hosts that are network namespaces, on a switch that is one more: `--hosts`, as root, on Linux.

The servers have a host of their own, and listen on its address. Whoever is cut off hears nothing,
not even that nobody is there: packets are lost on the way, in both directions.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from embedfleet.stack import Endpoints, down
from embedfleet.stack.files import Folder

FOLDER = "namespaces"
STOP_S = 600.0
# Runs on the host of the servers, whose address becomes theirs.
SERVERS = """
import sys
from pathlib import Path
from embedfleet.stack import ports, postgres, up
data, address, subnet = sys.argv[1:]
initialise = postgres.initialise
def for_the_subnet(folder, account):
    initialise(folder, account)
    with (folder.cluster / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {subnet} scram-sha-256\\n")
ports.LOOPBACK, postgres.initialise = address, for_the_subnet
up(Path(data))
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hosts", action="store_true", help="run the tests that make network namespaces, as root"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--hosts"):
        return
    left_out = [item for item in items if item.path.parent.name == FOLDER]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def ip(*words: str, check: bool = True) -> None:
    done = subprocess.run([_program(), *words], check=False, capture_output=True, text=True)
    assert not check or 0 == done.returncode, f"ip {' '.join(words)}: {done.stderr}"


@cache
def _program() -> str:
    program = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program is not None, "ip is not installed: apt-get install iproute2"
    return program


@dataclass(frozen=True)
class Host:
    """A namespace with one interface; `port` is where the switch has the other end of its cable."""

    name: str
    address: str
    mac: str
    port: str

    def command(self, *words: str | Path) -> list[str]:
        """What runs the words on this host, under the number of the process that is started."""
        return [_program(), "netns", "exec", self.name, *map(str, words)]


@dataclass
class Network:
    """A switch with hosts; this process has a cable to it, too."""

    name: str
    subnet: str
    ours: str
    hosts: list[Host] = field(default_factory=list)

    def cut(self, host: Host) -> None:
        """Pull its cable out of the switch: neither side sees that."""
        ip("-n", self.name, "link", "set", host.port, "nomaster")

    def mend(self, host: Host) -> None:
        ip("-n", self.name, "link", "set", host.port, "master", "switch")


@contextmanager
def network(count: int) -> Iterator[Network]:
    """So many hosts; everything is gone at the end."""
    number = os.getpid() % 200 + 20
    net = Network(f"embedfleet-{os.getpid()}", f"10.231.{number}.0/24", _interface(0))
    try:
        ip("netns", "add", net.name)
        ip("-n", net.name, "link", "add", "switch", "type", "bridge")
        ip("-n", net.name, "link", "set", "switch", "up")
        for n in range(count + 1):
            _plug(net, n, f"10.231.{number}.{n + 1}")
        _introduce(net)
        yield net
    finally:
        # A cable goes with either of its ends; those of namespaces go some time later.
        ip("link", "delete", net.ours, check=False)
        for name in [*(host.name for host in net.hosts), net.name]:
            ip("netns", "delete", name, check=False)


def _interface(n: int) -> str:
    """Fifteen characters at the most."""
    return f"ef{os.getpid()}x{n}"


def _plug(net: Network, n: int, address: str) -> None:
    """A cable from the switch to a new host; the first is for this process."""
    mac, port, end = f"02:ef:00:00:00:{n:02x}", f"port{n}", _interface(n)
    ip("link", "add", end, "address", mac, "type", "veth", "peer", port, "netns", net.name)
    ip("-n", net.name, "link", "set", port, "master", "switch", "up")
    if n == 0:
        ip("address", "add", f"{address}/24", "dev", end)
        ip("link", "set", end, "up")
        return
    host = Host(f"{net.name}-{n}", address, mac, port)
    ip("netns", "add", host.name)
    net.hosts.append(host)
    ip("link", "set", end, "netns", host.name, "name", "eth0")
    ip("-n", host.name, "address", "add", f"{address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        ip("-n", host.name, "link", "set", device, "up")


def _introduce(net: Network) -> None:
    """Who is where is known for good: otherwise a host that is cut off is unreachable within three
    seconds, which is an error, and the worst is that there is none.
    """
    for host in net.hosts:
        for other in net.hosts:
            if host is not other:
                known = (other.address, "lladdr", other.mac, "dev", "eth0", "nud", "permanent")
                ip("-n", host.name, "neighbour", "replace", *known)


@contextmanager
def servers(net: Network, host: Host) -> Iterator[Endpoints]:
    """PostgreSQL and Valkey on a host, for all that have a cable to the switch."""
    parent = Path(tempfile.mkdtemp(prefix="embedfleet-hosts-"))
    data = parent / "data"
    try:
        command = host.command(sys.executable, "-c", SERVERS, data, host.address, net.subnet)
        subprocess.run(command, check=True, timeout=STOP_S)
        endpoints = Folder(data).read_endpoints()
        assert endpoints is not None
        yield endpoints
    finally:
        down(data)
        shutil.rmtree(parent)


class HostWorker:
    """A real `embedfleet worker` of one slot, on a host of its own or among others."""

    def __init__(self, host: Host, log: Path, settings: Mapping[str, str]) -> None:
        self.host, self.log = host, log
        program = Path(sys.executable).with_name("embedfleet")
        variables = {f"EMBEDFLEET_{name.upper()}": value for name, value in settings.items()}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                host.command(program, "worker", "--queue", "cpu", "--concurrency", "1"),
                env={**os.environ, "EMBEDFLEET_DATA": str(log.with_suffix("")), **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._told_at = 0.0

    def leave(self) -> None:
        """As Kubernetes says it."""
        self._told_at = time.monotonic()
        self._process.send_signal(signal.SIGTERM)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def left_after_s(self, grace_s: float = STOP_S) -> float:
        """Raises TimeoutExpired where it is still there after its grace."""
        left = max(0.0, self._told_at + grace_s - time.monotonic())
        assert 0 == self._process.wait(left), self.log.read_text()[-2_000:]
        return time.monotonic() - self._told_at

    def kill(self) -> None:
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(STOP_S)
