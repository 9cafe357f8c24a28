"""Disputed labels, and what the collection of feedback keeps."""

from fraud_db.migrations.script import run_sql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0024_feedback.sql")
