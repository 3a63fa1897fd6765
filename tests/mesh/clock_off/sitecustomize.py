"""Read by every Python that has this folder in PYTHONPATH: its wall clock is off by CLOCK_OFF_S
seconds, and what measures durations is right. (libfaketime, which does this to any program, breaks
the timers of gRPC.)"""

import os
import time

_OFF_S = int(os.environ.get("CLOCK_OFF_S", "0"))
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + _OFF_S
time.time_ns = lambda: _time_ns() + _OFF_S * 1_000_000_000
