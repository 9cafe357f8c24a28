"""The verbs: each builds the adapters, calls one function and returns the result."""

from __future__ import annotations

import argparse
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from config.job_results.producer import (
    BackfillResult,
    DriftSwitchResult,
    GenerateResult,
    HistoryNeedlessResult,
    HistoryResult,
    LabelsResult,
    OptimumResult,
    ReplayResult,
    SteadyResult,
)
from config.parameters import Parameters
from config.settings import (
    ConfigurationError,
    DatabaseSettings,
    KafkaSettings,
    PlatformSettings,
    contract,
    load,
    parameters,
)
from fraud_adapters.job import EXPECTED, PASSING, failure_of, stopping
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.kafka import Publisher, ensure_topics
from fraud_adapters.postgres import connect, simulated_drift, simulations
from fraud_core.contract import Contract
from fraud_producer import history, publishing, steady
from fraud_producer.drift import drifted
from fraud_producer.optimum import Optimum, bounds_of, compute
from fraud_producer.population import Population, population
from fraud_producer.simulator import CONTRACT, Simulator

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SERVICE: Final = "fraud-producer"
# Limits the labels published before the transactions of a run, which must be on time.
LABELS_A_RUN: Final = 6_000
PROGRESS_SECONDS: Final = 5.0


def generate(options: argparse.Namespace) -> GenerateResult | SteadyResult:
    """Publish due labels, then a run of simulated transactions; with `--every` periodically.

    Each run drifts as `drift` has switched on, unless the command line says how it drifts.
    """
    _simulator(options, options.drift)  # wrong options are reported before the first run
    kafka = load(KafkaSettings)

    def once(run_id: str) -> GenerateResult:
        now = datetime.now(UTC)
        run = publishing.Run(run_id, options.count, options.at or now, bool(options.at))
        return _publish(run, now, options, kafka)

    if options.every is None:
        return once(options.run_id or str(uuid.uuid4()))
    return steady.generate(once, options.every, stopping.stop_event())


def _publish(
    run: publishing.Run, now: datetime, options: argparse.Namespace, kafka: KafkaSettings
) -> GenerateResult:
    with (
        _safe_to_repeat(f"run {run.run_id} (--run-id repeats it)"),
        _database() as connection,
        _publisher(kafka) as publisher,
    ):
        labels_sent = publishing.publish_due_labels(
            connection, publisher, kafka.labels_topic, now, LABELS_A_RUN
        )
        chosen = _DriftingSimulator(options)
        simulated = publishing.simulate_run(connection, chosen.at, run)
        optimum = _optimum(connection, chosen.simulator.population, chosen.settings)
        publishing.publish_transactions(publisher, kafka.topic, chosen.simulator.contract, simulated)
    return {
        "run_id": run.run_id,
        "topic": kafka.topic,
        "event_time": simulated.batch.event_times[0].isoformat(),
        "transactions": len(simulated.batch),
        "frauds": int(simulated.labels.sum()),
        "labels_sent": labels_sent,
        "drift": chosen.kinds,
        "optimum": optimum.to_mapping(),
    }


def drift(options: argparse.Namespace) -> DriftSwitchResult:
    """Switch drift on or off for all further runs of `generate`, or show what is switched on."""
    _simulator(options, options.kinds)  # wrong kinds are refused before they are stored
    with _database() as connection, connection, connection.cursor() as cur:
        if options.off or options.kinds:
            simulated_drift.switch(cur, options.kinds)
        switched_on = simulated_drift.switched_on(cur)
    return {"status": "done", "drift": switched_on}


class _DriftingSimulator:
    """The simulator of a run: drifts as the command line says, else as was switched on at the run's time."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.kinds: list[str] = list(options.drift)
        self.simulator, self.settings = _simulator(options, self.kinds)

    def at(self, cur: Cursor, moment: datetime) -> Simulator:
        if not self._options.drift:
            self.kinds = simulated_drift.switched_on(cur, moment)
            self.simulator, self.settings = _simulator(self._options, self.kinds)
        return self.simulator


def labels(options: argparse.Namespace) -> LabelsResult:
    """Publish the labels that are due."""
    del options
    kafka = load(KafkaSettings)
    with _safe_to_repeat("labels"), _database() as connection, _publisher(kafka) as publisher:
        sent = publishing.publish_due_labels(connection, publisher, kafka.labels_topic, datetime.now(UTC))
    return {"topic": kafka.labels_topic, "labels_sent": sent}


def backfill(options: argparse.Namespace) -> BackfillResult:
    """Write days of history into Postgres."""
    simulator, settings = _simulator(options, options.drift)
    now = datetime.now(UTC)
    days = history.midnights(options.until or now, options.days)
    per_day = options.per_day or settings.simulator.history_per_day
    log = get_logger(SERVICE)

    def progress(done: int, total: history.BackfillCounts) -> None:
        log.info("backfill", days=done, of=len(days), transactions=total.transactions)

    started = time.monotonic()
    with _safe_to_repeat("backfill"), _database() as connection:
        optimum = _optimum(connection, simulator.population, settings)
        written = history.History(simulator, per_day, now).write(connection, days, progress)
    return {
        "transactions": written.transactions,
        "frauds": written.frauds,
        "labels": written.labels,
        "days_already_there": written.days_already_there,
        "days": len(days),
        "from": days[0].isoformat(),
        "seconds": round(time.monotonic() - started, 2),
        "optimum": optimum.to_mapping(),
    }


def first_history(options: argparse.Namespace) -> HistoryResult | HistoryNeedlessResult:
    """Backfill history if the installation has nothing to train on.

    Raises:
        ConfigurationError: history would be simulated in production.
    """
    platform = load(PlatformSettings)
    required = options.days * (options.per_day or parameters(platform).simulator.history_per_day)
    with _safe_to_repeat("history"), _database() as connection, connection.cursor() as cur:
        reason = history.reason_to_skip(cur, required)
    if reason is not None:
        return {"status": "done", "written": False, "reason": reason}
    if platform.app_env == "production":
        raise ConfigurationError(
            "APP_ENV is production, where no history is simulated: store labelled transactions of your own "
            "(fraud_producer replay), then train."
        )
    return {"status": "done", "written": True, **backfill(options)}


def optimum(options: argparse.Namespace) -> OptimumResult:
    """The best possible figures; needs no server."""
    simulator, settings = _simulator(options, options.drift)
    return compute(simulator.population, settings.gate_in_force).to_mapping()


def replay(options: argparse.Namespace) -> ReplayResult:
    """Send a file's transactions."""
    # Imported here because pyarrow's Parquet reader is slow to load and the other verbs do not need it.
    from fraud_adapters.transaction_files import TransactionFile  # noqa: PLC0415
    from fraud_producer.replay import Clock, DelayedLabels, Replay, Schedule  # noqa: PLC0415

    platform, kafka = load(PlatformSettings), load(KafkaSettings)
    schema, settings = contract(platform), parameters(platform)
    log = get_logger(SERVICE)
    schedule = Schedule(options.start or datetime.now(UTC), options.speed, placed=options.start is not None)
    replay_run = None
    try:
        file = TransactionFile.open(options.file, schema)
        if file.layout.ignored:
            log.warning("columns_ignored", file=file.path.name, columns=file.layout.ignored)
        keeps_truth = (
            not options.with_class and not options.no_labels and _has_label(schema, file.layout.columns)
        )
        with _safe_to_repeat("replay"), _publisher(kafka) as publisher:
            replay_run = Replay(
                file=file,
                schedule=schedule,
                sink=publisher,
                topic=kafka.topic,
                clock=Clock(time.monotonic, time.sleep),
                progress=_Progress(log).report,
                with_class=options.with_class,
                limit=options.limit,
            )
            if keeps_truth:
                with _database() as connection:
                    replay_run.truth = DelayedLabels(connection, schema, settings.simulator.label_delay)
                    replay_run.run()
            else:
                replay_run.run()
    except EXPECTED as error:
        sent = replay_run.acknowledged if replay_run else 0
        raise failure_of(error).extended(
            after=f" Sent before that: {sent} transactions.", result={"transactions": sent}
        ) from error
    return {
        "topic": kafka.topic,
        "transactions": replay_run.acknowledged,
        "file_sha256": file.digest,
        "columns_ignored": file.layout.ignored,
        "truth": "in the record" if options.with_class else "when due" if keeps_truth else "left out",
    }


class _Progress:
    """Logs the progress of a replay every few seconds."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._started = self._logged_at = time.monotonic()

    def report(self, sent: int) -> None:
        now = time.monotonic()
        if now - self._logged_at >= PROGRESS_SECONDS:
            self._logged_at = now
            self._log.info("replay", sent=sent, a_second=round(sent / (now - self._started)))


def _has_label(schema: Contract, columns: dict[str, str]) -> bool:
    return schema.label_field is not None and schema.label_field.name in columns


def _simulator(options: argparse.Namespace, drift_kinds: Sequence[str]) -> tuple[Simulator, Parameters]:
    platform = load(PlatformSettings)
    if platform.fraud_contract != CONTRACT:
        raise ConfigurationError(
            f"FRAUD_CONTRACT is {platform.fraud_contract}, but the simulator makes only transactions of the "
            f"contract {CONTRACT}: use replay."
        )
    settings = parameters(platform)
    defaults = settings.simulator
    try:
        base = population(
            defaults.seed if options.seed is None else options.seed,
            defaults.fraud_rate if options.fraud_rate is None else options.fraud_rate,
            defaults.overlap if options.overlap is None else options.overlap,
        )
        return Simulator(contract(platform), drifted(base, drift_kinds), defaults.label_delay), settings
    except ValueError as error:
        raise RefusedFailure(f"The simulator cannot do this: {error}.") from None


def _optimum(connection: Connection, target: Population, settings: Parameters) -> Optimum:
    """The optimum of a population, computed once and stored."""
    policy = settings.gate_in_force
    with connection, connection.cursor() as cur:
        stored = simulations.read_simulation(cur, target.digest)
        known = None if stored is None else Optimum.from_mapping(stored)
        if known is None or known.bounds != bounds_of(policy):
            known = compute(target, policy)
            simulations.store_simulation(cur, target.digest, target.to_mapping(), known.to_mapping())
    return known


@contextmanager
def _database() -> Iterator[Connection]:
    with closing(connect(load(DatabaseSettings).url, SERVICE)) as connection:
        yield connection


@contextmanager
def _publisher(kafka: KafkaSettings) -> Iterator[Publisher]:
    servers = kafka.bootstrap_servers
    ensure_topics(servers, [kafka.topic, kafka.labels_topic])
    with Publisher(servers) as publisher:
        yield publisher


@contextmanager
def _safe_to_repeat(action: str) -> Iterator[None]:
    """Extend the sentence of a passing failure: what failed, and that running it again is safe."""
    try:
        yield
    except PASSING as error:
        raise failure_of(error).extended(before=f"{action}: ", after=" Running it again is safe.") from error
