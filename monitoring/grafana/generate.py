"""Generates the dashboards: `python -m monitoring.grafana.generate`.

The builders are typed for Grafana 11.6, whose dashboards later versions take as they are. A test fails if a
file is out of date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, VariableHide, VariableRefresh

from monitoring.grafana.boards import (
    airflow,
    alerts,
    audit,
    canary,
    drift,
    overview,
    performance,
    pipeline,
    quality,
    runbooks,
    scoring,
)
from monitoring.grafana.boards.panels import POSTGRES, panel, positions
from monitoring.grafana.boards.question import RUNBOOKS_UID, Board

FOLDER: Final = Path(__file__).parent / "dashboards"
# Where Airflow's web page is; docs/production.md says how an installation puts its own.
AIRFLOW_URL: Final = "http://localhost:8080"
BOARDS: Final = (
    overview.OVERVIEW,
    pipeline.PIPELINE,
    scoring.SCORING,
    performance.PERFORMANCE,
    canary.CANARY,
    drift.DRIFT,
    quality.QUALITY,
    airflow.AIRFLOW,
    alerts.ALERTS,
    audit.AUDIT,
)


def files() -> dict[str, str]:
    """The name and the content of every file."""
    made = {f"{board.name}.json": _encoded(_dashboard(board)) for board in BOARDS}
    return made | {"runbooks.json": _encoded(_runbooks())}


def _dashboard(board: Board) -> dashboard.Dashboard:
    made = _empty(board.title, board.uid, board.question).refresh(board.refresh).time(board.since, "now")
    made = made.with_variable(dashboard.ConstantVariable("airflow").value(AIRFLOW_URL))
    if board.contracts_of:
        made = made.with_variable(_contract(board.contracts_of))
    for number, (question, position) in enumerate(
        zip(board.questions, positions(board.questions), strict=True), start=1
    ):
        made = made.with_panel(panel(question, number, position))
    return made


def _runbooks() -> dashboard.Dashboard:
    made = _empty("Fraud detection – runbooks", RUNBOOKS_UID, "What is to be done about an alert?")
    for page in runbooks.pages():
        made = made.with_panel(page)
    return made


def _empty(title: str, uid: str, question: str) -> dashboard.Dashboard:
    others = dashboard.DashboardLink("Dashboards").type(DashboardLinkType.DASHBOARDS).tags(["fraud"])
    made = dashboard.Dashboard(title).uid(uid).description(question).tags(["fraud"]).timezone("browser")
    return made.readonly().link(others.as_dropdown(True).keep_time(True))


def _contract(table: str) -> dashboard.QueryVariable:
    query = f"SELECT DISTINCT contract FROM {table} ORDER BY 1"
    made = dashboard.QueryVariable("contract").label("Contract").datasource(POSTGRES).query(query)
    return made.refresh(VariableRefresh.ON_DASHBOARD_LOAD).hide(VariableHide.DONT_HIDE)


def _encoded(made: dashboard.Dashboard) -> str:
    document = json.loads(JSONEncoder().encode(made.build()))
    for variable in document.get("templating", {}).get("list", ()):
        if variable["type"] != "interval":
            # The builders write it into every variable; Grafana's schema has it for intervals only.
            for name in ("auto", "auto_count", "auto_min"):
                variable.pop(name, None)
    return json.dumps(document, sort_keys=True, indent=2) + "\n"


def main() -> None:
    """Write every file."""
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
