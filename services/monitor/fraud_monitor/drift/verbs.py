"""The verbs of drift monitoring."""

from __future__ import annotations

from typing import Final

from fraud_monitor.arguments import Verb

VERBS: Final[tuple[Verb, ...]] = ()
