"""Runs a migration's SQL file: migrations are written in SQL, Alembic only orders them."""

from pathlib import Path

from alembic import op

_SQL = Path(__file__).parent / "sql"


def run_sql(name: str) -> None:
    """Run all statements of a file in the migration's transaction."""
    statements = (_SQL / name).read_text(encoding="utf-8")
    # Without parameters, so that neither `%` nor `:` in the file means anything.
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(statements)
