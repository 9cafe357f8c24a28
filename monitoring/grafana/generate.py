"""Generates the dashboards that are not made by hand: `python monitoring/grafana/generate.py`.

The builders are typed for Grafana 10.1, whose dashboards later versions take as they are. A test fails if a
file is out of date.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

FOLDER: Final = Path(__file__).parent / "dashboards"
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")


@dataclass(frozen=True, slots=True)
class Question:
    """A panel: the question it answers, and the query that does; red from `bad` on."""

    title: str
    question: str
    expr: str
    legend: str = ""
    unit: str = "short"
    bad: float | None = None
    over_time: bool = False


OVERVIEW: Final = (
    Question(
        "Alerts open",
        "Is there anything to do now?",
        "sum by (severity) (fraud_alerts_open)",
        "{{severity}}",
        bad=1,
    ),
    Question(
        "Messages that wait",
        "Has everybody been told?",
        "sum(fraud_alert_waiting)",
        bad=1,
    ),
    Question(
        "Transactions behind",
        "Does the stream keep up?",
        "sum(fraud_kafka_lag_records)",
        bad=1000,
    ),
    Question(
        "Not yet announced",
        "Do blocked transactions reach who acts on them?",
        "fraud_alert_outbox_waiting",
        bad=100,
    ),
    Question(
        "Dead letters",
        "How many records could not be processed?",
        "fraud_dead_letters_stored",
    ),
    Question(
        "Drift",
        "Has the data moved? 1 medium, 2 high, 3 critical",
        "max by (kind) (fraud_drift_severity)",
        "{{kind}}",
        bad=2,
    ),
    Question(
        "Quality",
        "Does a check fail? 1 warned, 2 failed",
        "max by (check) (fraud_quality_status)",
        "{{check}}",
        bad=2,
    ),
    Question(
        "Performance",
        "Does the model find the frauds?",
        "fraud_performance_value",
        "{{metric}}",
        over_time=True,
    ),
    Question(
        "Orders to retrain",
        "Does one wait to be taken up?",
        "fraud_retraining_triggers_open",
        bad=1,
    ),
    Question(
        "Model versions",
        "How many passed their gate?",
        "fraud_model_versions",
        "{{gate}}",
    ),
    Question(
        "Dependencies",
        "Does the API reach what it needs?",
        "min by (part) (fraud_api_dependency_up)",
        "{{part}}",
    ),
    Question(
        "Alerts raised",
        "Is it noisy?",
        "sum by (severity) (increase(fraud_alerts_raised_total[1d]))",
        "{{severity}}",
        over_time=True,
    ),
    Question(
        "Age of the latest quality report",
        "Is quality watched?",
        "time() - fraud_quality_checked_timestamp_seconds",
        unit="s",
        bad=10800,
    ),
    Question(
        "Age of the sign of life",
        "Would an alert of Prometheus reach people?",
        "time() - fraud_alert_heartbeat_timestamp_seconds",
        unit="s",
        bad=900,
    ),
    Question(
        "Task runs recorded",
        "Does Airflow work?",
        "rate(fraud_airflow_task_runs_recorded_total[5m])",
        unit="ops",
        over_time=True,
    ),
    Question(
        "Drift by feature",
        "Which features have moved, and since when?",
        "fraud_drift_value",
        "{{feature}} {{metric}}",
        over_time=True,
    ),
    Question(
        "Database",
        "Does the disk suffice?",
        "fraud_database_bytes",
        unit="bytes",
        over_time=True,
    ),
    Question(
        "Deadlocks",
        "Do transactions block one another?",
        "increase(fraud_database_deadlocks_total[1h])",
        over_time=True,
    ),
)


def overview() -> str:
    """The dashboard of one look: is money safe right now?"""
    board = dashboard.Dashboard("Fraud detection – is money safe right now?").uid("fraud-overview")
    board = board.tags(["fraud"]).refresh("15s").time("now-6h", "now").timezone("browser").readonly()
    for question in OVERVIEW:
        board = board.with_panel(panel(question))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def panel(question: Question) -> stat.Panel | timeseries.Panel:
    """One panel of the question."""
    query = prometheus.Dataquery().expr(question.expr).legend_format(question.legend).ref_id("A")
    made: stat.Panel | timeseries.Panel
    if question.over_time:
        made = timeseries.Panel().legend(common.VizLegendOptions().show_legend(True))
    else:
        made = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    made = made.title(question.title).description(question.question).unit(question.unit).datasource(_SOURCE)
    made = made.with_target(query if question.over_time else query.instant()).height(6)
    made = made.span(12 if question.over_time else 6)
    if question.bad is not None:
        steps = [Threshold(value=None, color="green"), Threshold(value=question.bad, color="red")]
        made = made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return made


def main() -> None:
    (FOLDER / "overview.json").write_text(overview(), encoding="utf-8")


if __name__ == "__main__":
    main()
