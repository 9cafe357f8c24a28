"""Every job checks the parts that its service uses, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.services import Backend, Jobs, Service, with_jobs

ROOT = Path(__file__).parents[2]


# Of these a job reports that they are away, as a finding: its checks of data quality do.
REPORTED = {"monitor": {Backend.KAFKA}}


def named_parts(service: Service) -> Iterator[Backend]:
    """The parts that the sources of a service name, as `Backend.KAFKA`."""
    for path in sorted((ROOT / service.folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "Backend":
                yield Backend[node.attr]


def has_jobs(service: Service) -> bool:
    return (ROOT / service.folder / service.module / "__main__.py").exists()


@pytest.mark.parametrize(
    "service", [one for one in with_jobs(Jobs.SCHEDULED) if has_jobs(one)], ids=lambda one: one.name
)
def test_a_service_s_jobs_check_the_parts_of_its_row(service: Service) -> None:
    assert set(named_parts(service)) == service.parts - REPORTED.get(service.name, set())


def test_the_api_is_a_part_of_those_that_have_a_client() -> None:
    parts = {service.name: service.parts for service in with_jobs(Jobs.SCHEDULED)}
    assert Backend.API in parts["streaming"]
    assert Backend.API not in parts["trainer"]
