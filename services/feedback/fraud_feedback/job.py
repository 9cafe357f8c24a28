"""The verbs of the feedback collection: parse, build, call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from config import settings
from config.services import Backend
from fraud_adapters.job import Result
from fraud_adapters.postgres import connect
from fraud_adapters.preflight import require
from fraud_feedback import collecting, housekeeping, importing, measuring, pending
from fraud_feedback.arguments import Verb, parser
from fraud_feedback.run_context import RunContext

VERBS: Final[tuple[Verb, ...]] = (
    *pending.VERBS,
    *collecting.VERBS,
    *measuring.VERBS,
    *importing.VERBS,
    *housekeeping.VERBS,
)


def main(arguments: Sequence[str]) -> Result:
    """Run the verb named in `arguments` and return its result.

    Raises:
        JobFailed: the verb failed.
        ConfigurationError: a variable or option is missing or wrong.
    """
    options = parser(VERBS, datetime.now(UTC)).parse_args(arguments)
    verb = next(verb for verb in VERBS if verb.name == options.verb)
    require(Backend.POSTGRES)
    platform = settings.load(settings.PlatformSettings)
    url = settings.load(settings.DatabaseSettings).url
    context = RunContext(
        contract=settings.contract(platform),
        parameters=settings.parameters(platform),
        database=partial(connect, url, "fraud_feedback"),
        dag=options.dag,
        run_id=options.run_id,
    )
    return verb.run(context, options)
