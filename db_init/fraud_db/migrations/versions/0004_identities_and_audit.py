"""Identities and audit."""

from fraud_db.migrations.script import run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0004_identities_and_audit.sql")
