"""What the monitor finds of data quality and performance."""

from fraud_db.migrations.script import run_sql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0016_quality_and_performance.sql")
