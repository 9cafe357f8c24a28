"""Time limits of jobs, whichever runner runs them."""

from __future__ import annotations

from typing import Final

KILL_PATIENCE_S: Final = 3.0  # Airflow follows its own SIGTERM with SIGKILL after 5 s
# Airflow may run a task again while its first run is still going; the first learns of it at its next
# heartbeat (every 5 s).
LOCK_PATIENCE_S: Final = 15.0
