"""Task runs are kept for two weeks."""

from fraud_db.migrations.script import run_sql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0019_task_runs_kept.sql")
