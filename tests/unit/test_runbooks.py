"""What runbooks tell a person to type: containers, services, roles and verbs that exist."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from config.services import SERVICES
from fraud_rollout.arguments import parser as rollout_parser
from fraud_rollout.job import VERBS as ROLLOUT_VERBS
from fraud_streaming.__main__ import _parser as streaming_parser
from monitoring.grafana.generate import BOARDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.local.yml").read_text(encoding="utf-8"))["services"]
CONTAINERS = {service["container_name"] for service in COMPOSE.values()}
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:docker|curl|\./fraud|make) [^`]+)`")
PARSERS = {"fraud_streaming": streaming_parser}


def commands(page: Path) -> list[str]:
    """The commands of a page, those within sentences included."""
    text = page.read_text(encoding="utf-8")
    blocks = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    return blocks + [" ".join(one.split()) for one in INLINE.findall(BLOCK.sub("", text))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_a_runbook_names_what_exists(page: Path) -> None:
    assert commands(page)
    for command in commands(page):
        words = shlex.split(command)
        assert problem(words) is None, command


def problem(words: list[str]) -> str | None:
    """What is wrong with a command; None if its words name what exists."""
    match words:
        case ["docker", "compose", "-f", file, verb, *names]:
            unknown = {name for name in names if not name.startswith("-")} - COMPOSE.keys()
            known = (ROOT / file).is_file() and verb in {"ps", "up", "restart", "stop", "start", "logs"}
            return None if known and not unknown else f"{file} {verb} {unknown}"
        case ["docker", "logs" | "exec", container, *_]:
            return None if container in CONTAINERS else container
        case ["./fraud", "exec", "--role", role, "--", "python", "-m", module, *arguments]:
            service = next((one for one in SERVICES if one.name == role), None)
            if service is None or service.module != module:
                return f"{role} {module}"
            PARSERS[module]().parse_args(arguments)
            return None
        case ["./fraud", "rollout", *arguments]:
            rollout_parser(ROLLOUT_VERBS, datetime.now(UTC)).parse_args(arguments)
            return None
        case ["make", target]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            return None if re.search(rf"\b{target}\b", makefile) else target
        case ["curl", *_, "--data-urlencode", query] if query.startswith("query="):
            return None  # the integration tests send it to a Prometheus
        case ["curl", "-s", url]:
            host, _, path = url.partition("/")
            return None if host in {"localhost:8000", "localhost:8080", "localhost:9093"} and path else url
    return "it is of no known form"


def test_a_panel_that_a_runbook_names_is_on_a_dashboard() -> None:
    titles = {question.title for board in BOARDS for question in board.questions}
    named = {
        name for page in PAGES for name in re.findall(r"\*([A-Z][^*\n]+)\*", page.read_text(encoding="utf-8"))
    }
    assert {"Records committed", "Waiting to be stored"} <= named <= titles
