"""Releases over HTTP: their mode, and their state as a shadow."""

from fraud_db.migrations.script import run_sql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0026_http_releases.sql")
