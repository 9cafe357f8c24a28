"""`docs/architecture.mermaid` shows every service of Compose, and no arrow that a network forbids."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.architecture_diagram import ARROW, NODE, SOURCE

ROOT = Path(__file__).resolve().parents[2]
# Nodes that are not services of the file: users of the platform, and containers that tasks start.
OUTSIDE = {"clients", "people"}
JOBS = "jobs"


def services() -> dict[str, Any]:
    declared: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.local.yml").read_text())["services"]
    return declared


def test_every_service_is_a_node_and_every_node_a_service() -> None:
    nodes = NODE.findall(SOURCE)
    assert sorted(nodes) == sorted({*services(), *OUTSIDE, JOBS})


def test_every_line_is_one_that_is_checked() -> None:
    known = re.compile(r"\s*(%%.*|flowchart LR|subgraph \w+\[\"[^\"]+\"\]|end|docker-proxy -\. .*\.-> jobs)?")
    lines = [line for line in SOURCE.splitlines() if not known.fullmatch(line)]
    assert [line for line in lines if not (NODE.fullmatch(line) or ARROW.fullmatch(line))] == []


def test_an_arrow_joins_two_that_share_a_network() -> None:
    networks = {name: set(one["networks"]) for name, one in services().items()} | {JOBS: {"jobs"}}
    arrows = ARROW.findall(SOURCE)
    assert {name for pair in arrows for name in pair} - OUTSIDE - networks.keys() == set()
    internal = [(one, other) for one, other in arrows if one not in OUTSIDE]
    assert [pair for pair in internal if not networks[pair[0]] & networks[pair[1]]] == []


def test_people_and_clients_reach_only_what_is_published() -> None:
    published = {name for name, one in services().items() if one.get("ports")}
    assert {other for one, other in ARROW.findall(SOURCE) if one in OUTSIDE} <= published
