"""The record of alerts and of Airflow's task runs, and the view of what jobs have found."""

from fraud_db.migrations.script import run_sql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0017_alerts.sql")
