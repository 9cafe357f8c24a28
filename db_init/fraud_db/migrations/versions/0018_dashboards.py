"""The rights of Grafana's role."""

from fraud_db.migrations.script import run_sql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0018_dashboards.sql")
