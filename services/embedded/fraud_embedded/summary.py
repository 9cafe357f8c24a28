"""What the demo shows at its end: figures read from the database, beside what was possible at best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any, Final

from config.constants import DAGS_SUB_MINUTE
from fraud_adapters.postgres import connect
from fraud_core.metrics import Confusion
from fraud_embedded.platform import Platform
from fraud_embedded.servers.airflow_api import AirflowApi, DagRun

STATEMENT: Final = (
    "The data is simulated: transactions, frauds and labels come from a seeded simulator, "
    "so these figures say how well the platform works, not how it would do on your data."
)
_COUNTS: Final = """
    SELECT (SELECT count(*) FROM transactions),
           (SELECT count(*) FROM predictions),
           (SELECT count(*) FROM predictions WHERE is_fraud_predicted),
           (SELECT count(*) FROM labels),
           (SELECT count(*) FROM dead_letters)
"""
_CONFUSION: Final = """
    SELECT count(*) FILTER (WHERE p.is_fraud_predicted AND s.label = 1),
           count(*) FILTER (WHERE p.is_fraud_predicted AND s.label = 0),
           count(*) FILTER (WHERE NOT p.is_fraud_predicted AND s.label = 0),
           count(*) FILTER (WHERE NOT p.is_fraud_predicted AND s.label = 1)
    FROM predictions p JOIN simulated_labels s USING (transaction_id)
    WHERE p.deciding
"""
# A simulated live transaction happens when it is produced.
_LATENCY: Final = """
    SELECT count(*),
           percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
               ORDER BY extract(epoch FROM t.ingestion_timestamp - t.event_time)::double precision * 1000
           )
    FROM transactions t JOIN predictions p USING (transaction_id)
    WHERE p.deciding AND t.ingestion_timestamp >= %s
"""
_DECIDED: Final = """
    SELECT count(*) FROM transactions t JOIN predictions p USING (transaction_id)
    WHERE p.deciding AND t.ingestion_timestamp >= %s
"""
_MODEL: Final = """
    SELECT m.version, m.gate_policy, m.gate_passed, m.gate_outcome, m.metrics, m.threshold, m.block_threshold
    FROM model_versions m
    WHERE m.name = %s AND m.version = (
        SELECT model_version FROM predictions WHERE deciding ORDER BY prediction_time DESC LIMIT 1
    )
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything the demo reports; JSON-ready by `asdict`."""

    urls: dict[str, str]
    credentials: str
    transactions: int
    predictions: int
    frauds_predicted: int
    labels: int
    dead_letters: int
    live: dict[str, Any]
    latency_ms: dict[str, float | None]
    model: dict[str, Any] | None
    optimum: dict[str, Any] | None
    dags: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    statement: str = STATEMENT

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def has_model(url: str) -> bool:
    """Whether a model ever passed its gate here."""
    with closing(connect(url, "fraud_embedded")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM model_versions WHERE gate_passed)")
        row = cursor.fetchone()
    return bool(row and row[0])


def decided_since(url: str, since: datetime) -> int:
    """How many transactions were stored and decided since then."""
    with closing(connect(url, "fraud_embedded")) as connection, connection.cursor() as cursor:
        cursor.execute(_DECIDED, (since,))
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def summarise(
    platform: Platform, since: datetime, seconds: Mapping[str, float], optimum: Mapping[str, Any]
) -> Summary:
    """Read the figures; latency is that of what was stored after `since`.

    `optimum` is that of the population the live transactions were drawn from.
    """
    with (
        closing(connect(platform.database_url("readonly"), "fraud_embedded")) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(_COUNTS)
        transactions, predictions, frauds, labels, dead = cursor.fetchone()
        cursor.execute(_CONFUSION)
        confusion = Confusion(*cursor.fetchone())
        cursor.execute(_LATENCY, (since,))
        measured, percentiles = cursor.fetchone()
        cursor.execute(_MODEL, (platform.registered_model,))
        model = cursor.fetchone()
    p50, p99 = percentiles or (None, None)
    api = AirflowApi(platform.airflow())
    return Summary(
        urls=urls(platform),
        credentials=str(platform.layout.env_file),
        transactions=transactions,
        predictions=predictions,
        frauds_predicted=frauds,
        labels=labels,
        dead_letters=dead,
        live=_quality(confusion),
        latency_ms={"count": measured, "p50": p50, "p99": p99},
        model=dict(zip(_MODEL_FIELDS, model, strict=True)) if model else None,
        optimum=dict(optimum),
        dags={dag_id: dag_figures(api.runs(dag_id, since)) for dag_id in DAGS_SUB_MINUTE},
        seconds=dict(seconds),
    )


_MODEL_FIELDS: Final = (
    "version",
    "gate_policy",
    "gate_passed",
    "gate_outcome",
    "metrics",
    "threshold",
    "block_threshold",
)


def dag_figures(runs: Sequence[DagRun]) -> dict[str, Any]:
    """Runs by state, and in seconds the medians of a run and of the time from one start to the next."""
    starts = sorted(run.started for run in runs if run.started)
    periods = [(later - earlier).total_seconds() for earlier, later in pairwise(starts)]
    times = [(run.ended - run.started).total_seconds() for run in runs if run.started and run.ended]
    return {
        "runs": dict(Counter(run.state for run in runs)),
        "median_seconds": round(median(times), 2) if times else None,
        "median_period": round(median(periods), 2) if periods else None,
    }


def urls(platform: Platform) -> dict[str, str]:
    """Where everything answers; no secret is in these addresses."""
    stack = platform.stack
    return {
        "audit": f"http://127.0.0.1:{platform.addresses.audit}/",
        "overview": f"http://127.0.0.1:{platform.addresses.overview}/",
        "api": f"{platform.api_url}/docs",
        "api replica": f"http://127.0.0.1:{platform.addresses.api_direct}",
        "api metrics": f"http://127.0.0.1:{platform.addresses.api_metrics}/metrics",
        "audit metrics": f"http://127.0.0.1:{platform.addresses.audit_metrics}/metrics",
        "airflow": platform.airflow().url,
        "airflow metrics": f"http://127.0.0.1:{platform.addresses.watch_metrics}/metrics",
        "mlflow": stack.mlflow.tracking_uri,
        "postgres": f"127.0.0.1:{stack.postgres.port}/{platform.database}",
        "kafka": stack.broker.bootstrap,
        "object store": stack.objectstore.endpoint_url,
    }


def _quality(confusion: Confusion) -> dict[str, Any]:
    return {
        **asdict(confusion),
        "recall": confusion.recall,
        "precision": confusion.precision,
        "fpr": confusion.fpr,
        "f1": confusion.f1,
    }


def render(summary: Summary) -> str:
    """The summary for a person."""
    live, latency = summary.live, summary.latency_ms
    optimum = summary.optimum or {}
    lines = ["", "The platform is running.", ""]
    lines += [f"  {name:<15} {address}" for name, address in summary.urls.items()]
    lines += [
        f"  {'credentials':<15} in {summary.credentials} (readable by you alone)",
        f"  {'users':<15} audit's is admin (AUDIT_ADMIN_PASSWORD), airflow's is airflow, mlflow's is person",
        "",
    ]
    lines += [
        f"  transactions stored   {summary.transactions:,}",
        f"  predictions           {summary.predictions:,} ({summary.frauds_predicted:,} as fraud)",
        f"  labels received       {summary.labels:,}",
        f"  dead letters          {summary.dead_letters:,}",
        f"  production → stored   p50 {_ms(latency['p50'])}, p99 {_ms(latency['p99'])} "
        f"({latency['count']} transactions of this run)",
        "",
        f"  {'':<22}{'recall':>9}{'precision':>11}{'FPR':>9}",
        _row("live, against truth", live),
    ]
    if summary.model:
        lines.append(_row("model, held out", summary.model["metrics"] or {}))
    lines.append(_row("best possible", optimum))
    tp, fp, tn, fn = (live[name] for name in ("tp", "fp", "tn", "fn"))
    lines += [f"  live counts: {tp} frauds found, {fn} missed; {fp} false alarms, {tn} passed"]
    if summary.model:
        lines.append(
            f"  model version {summary.model['version']}, gate {summary.model['gate_policy']}: "
            f"{'passed' if summary.model['gate_passed'] else 'not passed'}"
        )
    lines += [_dag_line(dag_id, figures) for dag_id, figures in summary.dags.items()]
    times = ", ".join(f"{name.replace('_', ' ')} {value:.1f} s" for name, value in summary.seconds.items())
    lines += ["", f"  {summary.statement}", f"  From the start: {times}.", ""]
    lines.append("  ./fraud demo-status · demo-logs · demo-down (keeps the data) · demo-clean (removes it)")
    return "\n".join(lines)


def _dag_line(dag_id: str, figures: Mapping[str, Any]) -> str:
    runs = ", ".join(f"{count} {state}" for state, count in sorted(figures["runs"].items())) or "no run"
    took, period = figures["median_seconds"], figures["median_period"]
    times = "" if took is None else f", {took:.1f} s a run"
    return f"  {dag_id:<24}{runs}{times}" + ("" if period is None else f", one every {period:.1f} s")


def _row(name: str, figures: Mapping[str, Any]) -> str:
    def cell(key: str) -> str:
        value = figures.get(key)
        return "–" if value is None else f"{100 * float(value):.2f} %"

    return f"  {name:<22}{cell('recall'):>9}{cell('precision'):>11}{cell('fpr'):>9}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"
