"""What a panel is made of: a question, the queries that answer it, and how the answer is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote

RUNBOOK_FOLDER: Final = Path(__file__).resolve().parents[3] / "docs" / "runbooks"
RUNBOOKS: Final = tuple(sorted(page.stem for page in RUNBOOK_FOLDER.glob("*.md")))
RUNBOOKS_UID: Final = "fraud-runbooks"
# The variable `airflow` of each dashboard holds the address that people open.
RUN_LINK: Final = "${airflow}/dags/${__data.fields.dag:percentencode}/runs/${__data.fields.run:percentencode}"
# Of a table whose column `link` is an address, the log of a task.
LOG_LINK: Final = "${__data.fields.link}"


class View(StrEnum):
    """How an answer is shown."""

    NUMBER = "number"  # the latest value of each series
    LINES = "lines"  # values over time
    BARS = "bars"  # counts over time, stacked
    GRID = "grid"  # a row a series, a column a time: a heat map whose rows have names
    CATEGORIES = "categories"  # a group of bars for each value of the first column
    TABLE = "table"


# Width and height on the grid of 24 columns.
SIZES: Final = {
    View.NUMBER: (4, 4),
    View.LINES: (12, 8),
    View.BARS: (12, 8),
    View.GRID: (24, 11),
    View.CATEGORIES: (12, 8),
    View.TABLE: (24, 8),
}


@dataclass(frozen=True, slots=True)
class Promql:
    """A query of Prometheus; `legend` names its series by their labels."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Sql:
    """A query of the platform's database.

    For views over time its columns are `time`, `metric` (the series' name, optional) and values, and it is
    sorted by time. In a table, `dag` and `run` name a run of Airflow, to which the column `run` then leads.
    """

    statement: str


@dataclass(frozen=True, slots=True)
class Level:
    """From `start` on values have this colour; None: from the lowest one on."""

    start: float | None
    colour: str


@dataclass(frozen=True, slots=True)
class Named:
    """A number or a word that stands for a state: its name, and its colour."""

    value: str
    text: str
    colour: str


@dataclass(frozen=True, slots=True)
class Link:
    """Where to go from a panel."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Question:
    """A panel.

    Attributes:
        question: what it answers, in one sentence; it is the panel's description.
        unit: one of Grafana's units.
        levels: colours by value, only where a value means something.
        names: of values that are states.
        runbooks: the alerts that fire when the answer is bad.
        missing: what it means that there is no value.
        size: width and height, where the view's own do not fit.
    """

    title: str
    question: str
    queries: tuple[Promql | Sql, ...]
    view: View = View.NUMBER
    unit: str = "short"
    levels: tuple[Level, ...] = ()
    names: tuple[Named, ...] = ()
    runbooks: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    missing: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard.

    Attributes:
        name: of its file and, after `fraud-`, its address.
        contracts_of: the table whose contracts can be chosen; empty if the dashboard shows all of them.
    """

    name: str
    title: str
    question: str
    questions: tuple[Question, ...]
    since: str = "now-6h"
    refresh: str = "15s"
    contracts_of: str = ""

    @property
    def uid(self) -> str:
        return f"fraud-{self.name}"


def above(orange: float | None, red: float) -> tuple[Level, ...]:
    """Green below `orange`, red from `red` on."""
    between = () if orange is None else (Level(orange, "orange"),)
    return (Level(None, "green"), *between, Level(red, "red"))


def below(bound: float) -> tuple[Level, ...]:
    """Red below the bound, green from there on."""
    return Level(None, "red"), Level(bound, "green")


def prom(expression: str, legend: str = "") -> tuple[Promql, ...]:
    """A single query of Prometheus."""
    return (Promql(expression, legend),)


def sql(statement: str) -> tuple[Sql, ...]:
    """A single query of the database."""
    return (Sql(" ".join(statement.split())),)


def quantiles(metric: str, by: str = "", where: str = "") -> tuple[Promql, ...]:
    """p50, p95 and p99 of a histogram, by the label `by`."""
    name = f"{{{{{by}}}}} " if by else ""
    grouping = f"le, {by}" if by else "le"
    buckets = f"sum by ({grouping}) (rate({metric}_bucket{where}[$__rate_interval]))"
    return tuple(
        Promql(
            f"histogram_quantile({share}, {buckets})",
            f"{name}p{round(share * 100)}",
        )
        for share in (0.5, 0.95, 0.99)
    )


def board_link(name: str, title: str) -> Link:
    """To another dashboard."""
    return Link(title, f"/d/fraud-{quote(name)}")


def runbook_url(alert: str) -> str:
    """The page of an alert, alone on the screen.

    Raises:
        ValueError: there is no such page.
    """
    return f"/d/{RUNBOOKS_UID}?viewPanel={RUNBOOKS.index(alert) + 1}"


SEVERITIES: Final = (
    Named("insufficient", "insufficient", "text"),
    Named("none", "none", "green"),
    Named("medium", "medium", "yellow"),
    Named("high", "high", "orange"),
    Named("critical", "critical", "red"),
)
# The same as the numbers of `fraud_drift_severity`.
DRIFT_SEVERITIES: Final = tuple(
    Named(str(number), one.text, one.colour) for number, one in enumerate(SEVERITIES, start=-1)
)
OUTCOMES: Final = (
    Named("insufficient", "insufficient", "text"),
    Named("passed", "passed", "green"),
    Named("warned", "warned", "yellow"),
    Named("failed", "failed", "red"),
)
# The same as the numbers of `fraud_quality_status`.
QUALITY_STATES: Final = tuple(
    Named(str(number), one.text, one.colour) for number, one in enumerate(OUTCOMES, start=-1)
)
ERROR_SHARE: Final = (
    'sum(rate(fraud_api_requests_total{status=~"5.."}[5m]))'
    " / sum(rate(fraud_api_requests_total[5m])) or vector(0)"
)
YES_NO: Final = (Named("0", "no", "red"), Named("1", "yes", "green"))

# Asked on more than one board.
MODEL_SERVED: Final = Question(
    "Model served",
    "Which version decides?",
    prom("max by (version, gate) (fraud_api_model_info)", "{{version}} ({{gate}})"),
    names=YES_NO,
    runbooks=("NoModel",),
    missing="not ready",
)
RELEASE_RUNNING: Final = Question(
    "Release running",
    "Which version is being released, and which share of the cards has it?",
    sql("""
        SELECT concat_ws(' ', 'version', version, replace(state, '_', ' ')) AS release,
            traffic_percent / 100.0::float8 AS share
        FROM deployments WHERE ended_at IS NULL ORDER BY deployment_id
    """),
    unit="percentunit",
    runbooks=("CanaryFailing",),
    links=(board_link("canary", "Releases"),),
    missing="none",
)
NOT_YET_ANNOUNCED: Final = Question(
    "Not yet announced",
    "Do blocked and reviewed transactions reach who acts on them?",
    prom("fraud_alert_outbox_waiting"),
    levels=above(None, 100),
    runbooks=("AlertOutboxWaiting",),
)
