"""A route that reads a table is one file like this one's first part, and one line that includes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from fraud_adapters.postgres.session import Cursor
from fraud_api import access
from fraud_api.access import Reader
from fraud_api.dependencies import Database
from tests.support.api_application import CREDITCARD, Application
from tests.support.api_server import record_version
from tests.support.stored_rows import Database as MigratedDatabase

# --- the file -------------------------------------------------------------------------------------

router = APIRouter(prefix="/model-versions", tags=["models"])


class Version(BaseModel):
    version: str
    gate_passed: bool


class VersionList(BaseModel):
    versions: list[Version]


@router.get("", summary="Which versions passed their gate")
def list_model_versions(_: Reader, database: Database, limit: int = 10) -> VersionList:
    versions = database.run(lambda cursor: read_versions(cursor, limit))
    return VersionList(
        versions=[Version(version=version, gate_passed=passed) for version, passed in versions]
    )


# --- what goes to the module of the table's SQL ---------------------------------------------------


def read_versions(cursor: Cursor, limit: int) -> list[tuple[str, bool]]:
    cursor.execute("SELECT version, gate_passed FROM model_versions ORDER BY version LIMIT %s", (limit,))
    rows: list[tuple[str, bool]] = cursor.fetchall()
    return rows


# --- what comes with it ---------------------------------------------------------------------------


def with_route(folder: Path, **options: str) -> Application:
    application = Application.create(folder, **options)
    application.app.include_router(router)
    return application


def test_a_new_route_reads_a_table_behind_its_scope(database: MigratedDatabase, tmp_path: Path) -> None:
    for version, passed in (("1", True), ("2", False)):
        record_version(database.url("owner"), CREDITCARD, version, "a" * 64, passed=passed)
    application = with_route(tmp_path, database_url=database.url("api"))
    answer = application.request("GET", "/model-versions", "read")
    assert answer.json() == {
        "versions": [{"version": "1", "gate_passed": True}, {"version": "2", "gate_passed": False}]
    }
    assert application.request("GET", "/model-versions").status_code == 401
    assert application.request("GET", "/model-versions", "predict", "admin").status_code == 403
    assert access.scopes_of(application.app)["GET", "/model-versions"] == "read"
    application.service.database.close()


@pytest.fixture(scope="module")
def without_database(tmp_path_factory: pytest.TempPathFactory) -> Application:
    return with_route(tmp_path_factory.mktemp("models"))


def test_what_is_wrong_is_a_problem_without_a_line_in_the_route(without_database: Application) -> None:
    away = without_database.request("GET", "/model-versions", "read")
    assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    assert away.json()["detail"] == "The database does not answer."
    wrong = without_database.request("GET", "/model-versions?limit=many", "read")
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
    method = without_database.request("POST", "/model-versions", "read")
    assert (method.status_code, method.headers["allow"]) == (405, "GET, HEAD")
    assert without_database.request("HEAD", "/model-versions").status_code == 401


def test_the_document_says_what_it_may_answer(without_database: Application) -> None:
    operation = without_database.app.openapi()["paths"]["/model-versions"]["get"]
    assert operation["operationId"] == "list_model_versions"
    assert operation["security"] == [{"clientCredentials": ["read"]}]
    assert list(operation["responses"]) == ["200", "401", "403", "422", "503"]
    assert {*operation["responses"]["422"]["content"]} == {"application/problem+json"}
