"""Python imports this first: the wall clock of a process that is wrong by SKEW_S seconds."""

import os
import time

_SKEW_S = float(os.environ["SKEW_S"])
_right, _right_ns = time.time, time.time_ns

time.time = lambda: _right() + _SKEW_S
time.time_ns = lambda: _right_ns() + int(_SKEW_S * 1e9)
