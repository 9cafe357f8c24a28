"""Alerts that wait to be published."""

from fraud_db.migrations.script import run_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0006_alert_outbox.sql")
