"""The dashboards: as they are generated, valid for Grafana, and laid out so that each panel can be read."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.parameters import load_parameters
from config.services import ROLE_GRAFANA
from config.settings import CONFIG_DIR
from monitoring.grafana import generate
from monitoring.grafana.boards.drift import PSI_LEVELS
from monitoring.grafana.boards.question import RUNBOOKS, runbook_url
from tests.support.grafana_schema import SQL_TARGET, problems

FOLDER = generate.FOLDER
NAMES = [board.name for board in generate.BOARDS]
ALL = [*NAMES, "runbooks"]
UNITS = {"short", "s", "ms", "ops", "reqps", "bytes", "percentunit"}


def stored(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return document


def test_the_files_are_what_is_generated() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert written == generate.files(), "python -m monitoring.grafana.generate"


@pytest.mark.parametrize("name", ALL)
def test_a_dashboard_is_valid_by_grafanas_published_schema(name: str) -> None:
    assert problems(stored(name)) == []
    for panel in stored(name)["panels"]:
        for target in panel.get("targets", ()):
            if panel["datasource"]["uid"] == "postgres":
                assert target.keys() == SQL_TARGET
                assert target["format"] in {"table", "time_series"}


def _no_such_panel(board: dict[str, Any]) -> None:
    board["panels"][0]["type"] = "statistic"


def _unknown_field(board: dict[str, Any]) -> None:
    board["panels"][0]["options"]["colour"] = "red"


def _wrong_type(board: dict[str, Any]) -> None:
    board["panels"][0]["gridPos"]["w"] = "wide"


def _no_such_choice(board: dict[str, Any]) -> None:
    board["panels"][0]["options"]["colorMode"] = "loud"


def _query_of_another_type(board: dict[str, Any]) -> None:
    board["panels"][0]["targets"][0]["expr"] = 7


@pytest.mark.parametrize(
    "spoil", [_no_such_panel, _unknown_field, _wrong_type, _no_such_choice, _query_of_another_type]
)
def test_the_schema_refuses(spoil: Callable[[dict[str, Any]], None]) -> None:
    board = copy.deepcopy(stored("overview"))
    spoil(board)
    assert len(problems(board)) == 1


@pytest.mark.parametrize("name", ALL)
def test_panels_fit_side_by_side_and_have_numbers(name: str) -> None:
    panels = stored(name)["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart or above, (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_answers_a_question(name: str) -> None:
    board = stored(name)
    assert board["description"].endswith("?")
    assert (board["uid"], board["editable"], board["tags"]) == (f"fraud-{name}", False, ["fraud"])
    for panel in board["panels"]:
        assert "?" in panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
    titles = [panel["title"] for panel in board["panels"]]
    assert len(set(titles)) == len(titles)


def _urls(board: dict[str, Any]) -> set[str]:
    links = [link for panel in board["panels"] for link in panel.get("links", ())]
    return {link["url"] for link in links} | set(re.findall(r"\]\((/d/[^)]+)\)", json.dumps(board)))


def test_links_lead_to_what_exists() -> None:
    pages = {f"/d/fraud-{name}" for name in ALL} | {runbook_url(alert) for alert in RUNBOOKS}
    for name in ALL:
        assert _urls(stored(name)) <= pages, name
    shown = set().union(*(_urls(stored(name)) for name in NAMES))
    missing = {alert for alert in RUNBOOKS if runbook_url(alert) not in shown}
    # Alertmanager's own messages are in no figure of ours.
    assert missing == {"AlertsNotSent"}, "a panel shows what each alert is about, and leads to its page"


def test_a_runbook_is_shown_whole() -> None:
    shown = {panel["title"]: panel["options"]["content"] for panel in stored("runbooks")["panels"]}
    assert set(shown) == {page.stem for page in Path("docs/runbooks").glob("*.md")}
    page = Path("docs/runbooks/KafkaLag.md").read_text(encoding="utf-8")
    assert shown["KafkaLag"].splitlines()[0] == "## Meaning"
    assert len(shown["KafkaLag"].splitlines()) == len(page.rstrip().splitlines()) - 2
    assert f"[DagOverdue]({runbook_url('DagOverdue')})" in shown["KafkaLag"]


@pytest.mark.parametrize("name", NAMES)
def test_an_installations_own_address_of_airflow_is_put_in_at_one_place(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert text.count(generate.AIRFLOW_URL) == 1, "docs/production.md replaces it"


def test_runs_can_be_opened() -> None:
    """A table that names a run leads to it."""
    for name in NAMES:
        for panel in stored(name)["panels"]:
            statement = panel["targets"][0].get("rawSql", "")
            if re.search(r" AS run\b", statement) and panel["type"] == "table":
                assert " AS dag" in statement
                [override] = [
                    one for one in panel["fieldConfig"]["overrides"] if one["matcher"]["options"] == "run"
                ]
                assert override["properties"][0]["value"][0]["url"].startswith("${airflow}/dags/")


def test_colours_of_drift_are_the_bounds_that_decide() -> None:
    parameters = load_parameters(CONFIG_DIR, "production")
    inputs = parameters.drift.inputs
    bounds = [inputs.drifted_psi, parameters.thresholds.data_drift, inputs.high]
    assert [level.start for level in PSI_LEVELS] == [None, *bounds]


def test_the_data_sources_are_those_of_the_panels_and_get_what_they_need() -> None:
    text = (FOLDER.parent / "provisioning/datasources/fraud.yml").read_text(encoding="utf-8")
    sources = {one["uid"]: one for one in yaml.safe_load(text)["datasources"]}
    used = {
        (panel["datasource"]["uid"], panel["datasource"]["type"])
        for name in NAMES
        for panel in stored(name)["panels"]
    }
    assert used == {(uid, one["type"]) for uid, one in sources.items()}
    assert sources["postgres"]["user"] == ROLE_GRAFANA
    assert "${" not in text
    variables = set(re.findall(r"\$([A-Z][A-Z_]+)", text))
    assert variables
    for compose in ("docker-compose.local.yml", "monitoring/docker-compose.yml"):
        services = yaml.safe_load(Path(compose).read_text(encoding="utf-8"))["services"]
        assert variables <= services["grafana"]["environment"].keys(), compose
