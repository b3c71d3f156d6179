"""Every test in this folder that has a fleet ends with a check of the invariants."""

from plugins.failpoints import report, seed
from plugins.invariants import _invariants
from plugins.tcp_proxy import proxy

__all__ = ["_invariants", "proxy", "report", "seed"]
