"""The analysts' web app: its role, cases opened from decisions, and figures by hour."""

from fraud_db.migrations.script import run_sql

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0027_audit_app.sql")
