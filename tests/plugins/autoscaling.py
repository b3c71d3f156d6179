"""What KEDA and Kubernetes do with a ScaledObject, by the rendered manifest, at another pace.

KEDA asks the query every `pollingInterval`. The horizontal autoscaler wants `targetQueryValue` for
each worker, adds four or as many as there are within 15 s, and takes away what no reading of the
`stabilizationWindowSeconds` wanted.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from plugins.manifests import only, rendered

# The autoscaler's own defaults for more workers.
UP_EVERY_S, UP_AT_ONCE = 15.0, 4


class Leaves(Protocol):
    def leave(self) -> None: ...


Worker = TypeVar("Worker", bound=Leaves)


class Autoscaler(Generic[Worker]):
    """Starts workers and tells them to leave. `pace` is how much faster its time is than that of
    the manifest; `processes` how many of the pod's processes a worker of the test stands for.
    """

    def __init__(
        self,
        overlay: str,
        ask: Callable[[str], float],
        start: Callable[[], Worker],
        *,
        pace: float,
        least: int,
        most: int,
    ) -> None:
        resources = rendered(f"scaled/{overlay}")
        spec = only(resources, "ScaledObject")["spec"]
        (trigger,) = spec["triggers"]
        (container,) = only(resources, "Deployment")["spec"]["template"]["spec"]["containers"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        processes = int(container["args"][-1])
        assert spec["minReplicaCount"] <= least < most <= spec["maxReplicaCount"]
        self._query = trigger["metadata"]["query"]
        self._each = float(trigger["metadata"]["targetQueryValue"]) / processes / pace
        self._every_s = spec["pollingInterval"] / pace
        self._window_s = behavior["scaleDown"]["stabilizationWindowSeconds"] / pace
        self._up_every_s = UP_EVERY_S / pace
        self._least, self._most = least, most
        self._ask, self._start = ask, start
        self._wanted: deque[tuple[float, int]] = deque()
        self._last_up = -math.inf
        self.workers: list[Worker] = []
        self.left: list[Worker] = []
        self.asked: list[float] = []

    def run(self, until: Callable[[], object], *, timeout_s: float) -> float:
        """Scale until something is so; returns how long that took."""
        began = time.monotonic()
        while not until():
            assert time.monotonic() < began + timeout_s, f"not within {timeout_s} s: {until}"
            self._step(time.monotonic())
            time.sleep(self._every_s)
        return time.monotonic() - began

    def _step(self, now: float) -> None:
        value = self._ask(self._query)
        self.asked.append(value)
        wanted = min(self._most, max(self._least, math.ceil(value / self._each)))
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - self._window_s:
            self._wanted.popleft()
        count = len(self.workers)
        if wanted > count and now >= self._last_up + self._up_every_s:
            self._last_up = now
            room = max(UP_AT_ONCE, count)
            self.workers += [self._start() for _ in range(min(wanted - count, room))]
        for _ in range(count - max(wanted for _, wanted in self._wanted)):
            leaving = self.workers.pop()
            leaving.leave()
            self.left.append(leaving)
