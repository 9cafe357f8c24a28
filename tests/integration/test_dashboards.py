"""Every query of every dashboard, against a real Prometheus and Postgres that hold something to show."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg2
import pytest
import yaml
from prometheus_client import start_http_server

from fraud_adapters.postgres import connect
from fraud_embedded.processes.ports import free_ports
from tests.integration.gateway import gateway
from tests.support.api_server import ROOT
from tests.support.monitoring_history import Exporters, store_history
from tests.support.servers import Database, cloned_database
from tests.support.stored_rows import run
from tests.support.waiting import eventually

MONITORING: Final = ROOT / "monitoring"
BOARDS: Final = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(MONITORING.glob("grafana/dashboards/*.json"))
    if path.stem != "runbooks"  # it has no query
}
WAIT_S: Final = 30.0
DAGS: Final = {path.stem for path in (ROOT / "airflow" / "dags").glob("*.py")}
SPAN: Final = re.compile(r"now-(\d+)([hd])")


@pytest.fixture(scope="module")
def history(template: Database) -> Iterator[Database]:
    """A database in which monitoring has found something."""
    with cloned_database(template, "ledger_dashboards") as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_URL", "http://127.0.0.1:1")
        store_history(database)
        yield database


class Prometheus:
    """A Prometheus with our rules, at its address."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False)

    def query(self, expression: str) -> list[Mapping[str, Any]]:
        """The series or samples of an expression at this moment."""
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        result: list[Mapping[str, Any]] = answer["data"]["result"]
        return result

    def ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self._client.close()


@contextmanager
def scraping(targets: Mapping[str, int], folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes these ports twice a second."""
    command = shutil.which("prometheus") or pytest.skip(
        "prometheus is not installed: apt-get install prometheus"
    )
    [port] = free_ports(1)
    document = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    document["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s", "scrape_timeout": "500ms"}
    document["rule_files"] = [str(MONITORING / "prometheus" / "rules.yml")]
    del document["alerting"]
    document["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{one}"]}]}
        for job, one in {**targets, "prometheus": port}.items()
    ]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    options = [f"--config.file={file}", f"--storage.tsdb.path={folder}/data", "--log.level=error"]
    process = subprocess.Popen([command, *options, f"--web.listen-address=127.0.0.1:{port}"])
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    try:
        assert eventually(prometheus.ready, WAIT_S)
        yield prometheus
    finally:
        prometheus.close()
        process.kill()
        process.wait(30)


@pytest.fixture(scope="module")
def prometheus(history: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen every metric of ours, and seen the counters increase."""
    folder, exporters = tmp_path_factory.mktemp("prometheus"), Exporters(history)
    registries = exporters.registries()
    ports = dict(zip(registries, free_ports(len(registries)), strict=True))
    exporters.work(position=100)
    with ExitStack() as stack:
        for job, registry in exporters.registries().items():
            server, thread = start_http_server(ports[job], "127.0.0.1", registry)
            stack.callback(thread.join, 5)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        entrance, internal = stack.enter_context(gateway(ports["api"], folder))
        targets = {**ports, "gateway": internal}
        running = stack.enter_context(scraping(targets, folder))
        httpx.get(f"{entrance}/predict", trust_env=False)
        assert eventually(lambda: len(running.query("up == 1")) == len(targets) + 1, WAIT_S)
        exporters.work(position=150)
        httpx.get(f"{entrance}/predict", trust_env=False)
        increased = "fraud_airflow_task_runs_recorded_total == 2 and on () fraud_api_replayed_total == 2"
        seen = f"{increased} and on () sum(fraud_stream_position) == 300 and on () ALERTS"
        requests = "sum(increase(traefik_service_requests_total[1m])) > 0"
        assert eventually(lambda: bool(running.query(f"{seen} and on () ({requests})")), WAIT_S)
        yield running


def queries(board: Mapping[str, Any], language: str) -> Iterator[tuple[str, str, str]]:
    """Panel, query and format of a dashboard."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            if language in target:
                yield f"{panel['title']} ({target['refId']})", target[language], target.get("format", "")


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_of_prometheus_has_an_answer(prometheus: Prometheus, name: str) -> None:
    asked, without = 0, []
    for panel, expression, _ in queries(BOARDS[name], "expr"):
        answer = prometheus.query(expression.replace("$__rate_interval", "1m"))
        asked += 1
        if not answer or not all(math.isfinite(float(one["value"][1])) for one in answer):
            without.append(f"{panel}: {expression}: {answer}")
    assert "\n".join(without) == ""
    assert asked > 0


def rows_of(database: Database, statement: str) -> tuple[list[tuple[Any, ...]], dict[str, int]]:
    """What Grafana's role is given: rows, and the columns with the types of their values."""
    with (
        closing(connect(database.url("grafana"), "grafana")) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return cursor.fetchall(), {column.name: column.type_code for column in cursor.description}


def expanded(board: Mapping[str, Any], statement: str, contract: str) -> str:
    """The statement as Grafana sends it, for the period that the dashboard opens with."""
    amount, unit = SPAN.fullmatch(board["time"]["from"]).groups()  # type: ignore[union-attr]
    now = datetime.now(UTC) + timedelta(seconds=1)
    start = now - timedelta(**{{"h": "hours", "d": "days"}[unit]: int(amount)})
    period = f"BETWEEN '{start:%Y-%m-%dT%H:%M:%SZ}' AND '{now:%Y-%m-%dT%H:%M:%SZ}'"
    statement = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 {period}", statement)
    return statement.replace("${contract:sqlstring}", f"'{contract}'")


def chosen_contract(board: Mapping[str, Any], database: Database) -> str:
    """The contract that the dashboard's variable offers first."""
    for variable in board["templating"]["list"]:
        if variable["name"] == "contract":
            return str(rows_of(database, variable["query"])[0][0][0])
    return ""


@pytest.mark.parametrize("name", [name for name, board in BOARDS.items() if any(queries(board, "rawSql"))])
def test_every_query_of_the_database_has_an_answer(history: Database, name: str) -> None:
    board = BOARDS[name]
    contract = chosen_contract(board, history)
    without = []
    for panel, statement, form in queries(board, "rawSql"):
        sent = expanded(board, statement, contract)
        assert "$" not in sent, panel
        rows, columns = rows_of(history, sent)
        if not rows or all(row[-1] is None for row in rows):
            without.append(f"{panel}: {sent}")
        if form == "time_series":
            assert_series(panel, rows, columns)
        if {"dag", "run"} <= columns.keys():
            names = list(columns)
            assert all(row[names.index("dag")] in DAGS for row in rows if row[names.index("run")])
    assert "\n".join(without) == ""


def assert_series(panel: str, rows: list[tuple[Any, ...]], columns: Mapping[str, int]) -> None:
    """What Grafana can draw over time: sorted times, at most one name a row, numbers."""
    names = list(columns)
    assert names[0] == "time", panel
    assert all(isinstance(row[0], datetime) for row in rows), panel
    assert [row[0] for row in rows] == sorted(row[0] for row in rows), panel
    for position, column in enumerate(names[1:], start=1):
        kind = str if column == "metric" else (int, float)
        values = [row[position] for row in rows if row[position] is not None]
        assert all(isinstance(value, kind) for value in values), (panel, column, values[:3])
    if "metric" in columns:
        assert len({row[:2] for row in rows}) == len(rows), f"{panel}: two values of a series at a time"


def test_the_heat_map_has_every_feature_at_every_time(history: Database) -> None:
    board = BOARDS["drift"]
    [grid] = [panel for panel in board["panels"] if panel["title"] == "PSI by feature and time"]
    assert grid["type"] == "status-history"
    statement = expanded(board, grid["targets"][0]["rawSql"], chosen_contract(board, history))
    rows, _ = rows_of(history, statement)
    times = sorted({row[0] for row in rows})
    assert len(times) == 2
    assert {metric for _, metric, _ in rows} >= {"amount", *(f"v{number}" for number in range(1, 29))}
    amount = [value for _, metric, value in rows if metric == "amount"]
    assert amount[0] < 0.3 and amount[1] > 0.5, "the amounts of the second run are eight times as large"


def panel_rows(database: Database, board: str, title: str) -> list[tuple[Any, ...]]:
    [panel] = [one for one in BOARDS[board]["panels"] if one["title"] == title]
    statement = expanded(BOARDS[board], panel["targets"][0]["rawSql"], "")
    return rows_of(database, statement)[0]


def test_a_release_is_shown_with_its_verdict_and_both_arms(history: Database) -> None:
    assert panel_rows(history, "overview", "Release running") == [("version 7 canary", 0.1)]
    [latest] = panel_rows(history, "canary", "The latest release")
    assert latest[3:7] == ("7", "5", "canary", 10)
    [verdict] = panel_rows(history, "canary", "Verdict so far")
    assert verdict[1:3] == ("inconclusive", "wait")
    assert verdict[3].startswith("Inconclusive: ")
    checks = {row[0]: row[1] for row in panel_rows(history, "canary", "Checks")}
    assert (checks["recall"], checks["traffic"]) == ("passed", "insufficient")
    ended = panel_rows(history, "canary", "History of releases")
    assert [(row[2], row[4]) for row in ended] == [("7", "canary"), ("6", "rolled_back")]
    assert panel_rows(history, "canary", "Releases that ended well") == [(0.0,)]
    scores = panel_rows(history, "canary", "Scores of both arms")
    assert [row[0] for row in scores][::19] == ["0.00–0.05", "0.95–1.00"]
    assert [sum(row[arm] for row in scores) for arm in (1, 2)] == pytest.approx([1, 1])


def test_grafana_reads_what_monitoring_found_and_nothing_else(history: Database) -> None:
    for table in ("transactions", "predictions", "labels", "audit_log", "clients"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows_of(history, f"SELECT * FROM {table} LIMIT 1")
    assert rows_of(history, "SHOW statement_timeout")[0] == [("15s",)]
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        rows_of(history, "CREATE TEMPORARY TABLE mine (x integer)")


RUNBOOKS: Final = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
PROMQL: Final = re.compile(r"--data-urlencode 'query=([^']+)'")
PSQL: Final = re.compile(r'psql -U postgres -d fraud_detection -c "([^"]+)"|^```sql\n(.*?)^```', re.M | re.S)


def test_what_runbooks_ask_prometheus_is_answered(prometheus: Prometheus) -> None:
    asked = {page.stem: PROMQL.findall(page.read_text(encoding="utf-8")) for page in RUNBOOKS}
    assert sum(map(len, asked.values())) > 10
    for page, expressions in asked.items():
        for expression in expressions:
            names = re.findall(r"fraud_\w+", expression)
            assert all(prometheus.query(name) for name in names), (page, expression)
            prometheus.query(expression)


def test_what_runbooks_ask_postgres_is_answered(history: Database) -> None:
    asked = [(page.stem, "".join(one)) for page in RUNBOOKS for one in PSQL.findall(page.read_text("utf-8"))]
    assert len(asked) > 5
    for page, statement in asked:
        with closing(connect(history.url("admin"), page)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            assert cursor.description is not None, (page, statement)


def test_an_estimate_is_trusted_where_labels_confirmed_those_before_and_nothing_moved(
    history: Database,
) -> None:
    statement = (
        "SELECT DISTINCT run_id, trusted FROM performance_estimates WHERE run_id LIKE 'scheduled%' ORDER BY 1"
    )
    assert run(history.url("readonly"), statement) == [("scheduled__loud", False), ("scheduled__quiet", True)]
