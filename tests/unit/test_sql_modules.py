"""The SQL of a table is in one module of `fraud_adapters.postgres`: who changes the table finds it there."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
ADAPTERS = "adapters/fraud_adapters/postgres"
MIGRATIONS = ROOT / "db_init/fraud_db/migrations/sql"
# Commands of `./fraud` and of an installation's servers; they start where there is no adapter yet.
NOT_SEARCHED = {"embedded"}
# Statements that need a second table, outside the module that this table belongs to.
ALLOWED = {
    ("transactions", f"{ADAPTERS}/examples.py"),  # joins transactions with their mature labels
    ("transactions", f"{ADAPTERS}/transaction_pages.py"),  # an interval, page by page
    ("predictions", f"{ADAPTERS}/examples.py"),  # what was blocked has no label by silence
    ("transactions", f"{ADAPTERS}/alert_outbox.py"),  # an alert shows the transaction
    ("predictions", f"{ADAPTERS}/alert_outbox.py"),  # … and its decision
    ("transactions", f"{ADAPTERS}/simulations.py"),  # history is simulated among what is stored
    ("alert_outbox", f"{ADAPTERS}/scored_transactions.py"),  # stored with its prediction, in one transaction
    ("stream_offsets", f"{ADAPTERS}/stalled_holders.py"),  # whether the position moved, in one statement
    ("predictions", f"{ADAPTERS}/scored_windows.py"),  # the monitor reads scores and features in bulk
    ("predictions", f"{ADAPTERS}/labelled_predictions.py"),  # … and joins decisions with mature labels
    ("predictions", f"{ADAPTERS}/served_predictions.py"),  # … and how fast and how many they are
    ("transactions", f"{ADAPTERS}/arrivals.py"),  # the monitor counts what arrived
    ("predictions", f"{ADAPTERS}/arrivals.py"),  # … and what of it is not decided
    ("transactions", f"{ADAPTERS}/outcomes.py"),  # amounts and times of judged decisions
    ("predictions", f"{ADAPTERS}/outcomes.py"),  # … the decisions, with their mature labels
    ("predictions", f"{ADAPTERS}/feedback_figures.py"),  # … and what people and banks say of them
    ("transactions", f"{ADAPTERS}/feedback_figures.py"),  # … in one contract
    ("labels", f"{ADAPTERS}/feedback_figures.py"),  # … and who said it
    ("cases", f"{ADAPTERS}/feedback_figures.py"),  # … in the random sample
    ("labels", f"{ADAPTERS}/feedback_runs.py"),  # what a run has collected, in one statement
    ("transactions", f"{ADAPTERS}/cases.py"),  # a case shows its transaction
    ("predictions", f"{ADAPTERS}/cases.py"),  # … and its decision
    ("transactions", f"{ADAPTERS}/case_evidence.py"),  # a case beside other transactions
    ("predictions", f"{ADAPTERS}/case_evidence.py"),  # … their decisions
    ("labels", f"{ADAPTERS}/case_evidence.py"),  # … and what was reported about them
    ("cases", f"{ADAPTERS}/case_evidence.py"),  # … with their cases
    ("transactions", f"{ADAPTERS}/decision_lists.py"),  # people search decisions by their transactions
    ("predictions", f"{ADAPTERS}/decision_lists.py"),
    ("cases", f"{ADAPTERS}/decision_lists.py"),  # … and see whether there is a case
    ("predictions", "api/fraud_api/writer.py"),  # what was decided before, on the path of a request
}


def tables() -> set[str]:
    """The tables that the migrations make."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(MIGRATIONS.glob("*.sql")))
    return {name for text in texts for name in re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", text)}


def literals(source: str) -> Iterator[str]:
    """The text of every literal; of a formatted one what stands between its values."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield "".join(map(str, parts))


def named_tables(source: str, known: set[str]) -> set[str]:
    """The tables that the SQL of a module reads or writes."""
    names = set()
    for text in literals(source):
        if re.search(r"\b(SELECT|INSERT|UPDATE|DELETE)\b", text):
            names |= set(re.findall(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)", text))
    return names & known


def sources() -> dict[str, str]:
    paths = (
        path
        for path in sorted(SERVICES.rglob("*.py"))
        if path.relative_to(SERVICES).parts[0] not in NOT_SEARCHED
    )
    return {path.relative_to(SERVICES).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def modules_by_table(sources_by_path: dict[str, str], known: set[str]) -> dict[str, set[str]]:
    """Per table the modules with SQL that names it, apart from those that are allowed to."""
    modules = defaultdict(set)
    for path, source in sources_by_path.items():
        for table in named_tables(source, known):
            if (table, path) not in ALLOWED:
                modules[table].add(path)
    return dict(modules)


def test_the_sql_of_a_table_is_in_one_module_of_the_adapters() -> None:
    modules = modules_by_table(sources(), tables())
    assert {"labels", "model_versions", "clients", "dead_letters"} <= modules.keys()
    assert {table: paths for table, paths in modules.items() if len(paths) > 1} == {}
    assert {path for paths in modules.values() for path in paths if not path.startswith(ADAPTERS)} == set()


@pytest.mark.parametrize(
    "statement",
    [
        '"SELECT 1 FROM clients"',
        'f"SELECT {x} FROM clients WHERE {y}"',
        '"""\n  INSERT INTO clients\n  VALUES (%s)\n"""',
        '"UPDATE clients SET active = false"',
        '"DELETE FROM" " clients"',
        '"SELECT (SELECT 1) FROM a JOIN clients USING (b)"',
    ],
)
def test_sql_outside_of_its_module_is_found(statement: str) -> None:
    modules = {
        f"{ADAPTERS}/identities.py": '"SELECT 1 FROM clients"',
        "api/fraud_api/x.py": f"cur.execute({statement})",
    }
    assert modules_by_table(modules, {"clients"}) == {"clients": set(modules)}


def test_a_sentence_that_names_a_table_is_no_sql() -> None:
    assert (
        named_tables('"""Read clients from clients."""\nlog("nothing came from clients")', {"clients"})
        == set()
    )
