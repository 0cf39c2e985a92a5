"""When the process started."""

import time

STARTED = time.perf_counter()
"""Reading of the clock when this module is imported: `seconds.startup` counts from here."""
