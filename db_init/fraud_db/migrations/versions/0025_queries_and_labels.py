"""Queries over predictions, and labels that people set through the API."""

from fraud_db.migrations.script import run_sql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0025_queries_and_labels.sql")
