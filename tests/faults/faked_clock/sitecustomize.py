"""Python imports this first: `time.sleep` under libfaketime.

CPython sleeps until a moment of the monotonic clock, which libfaketime 0.9.10 takes for one of the
wall clock and refuses. A select without files sleeps as long.
"""

import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
