"""The rights of the job that validates and drives releases."""

from fraud_db.migrations.script import run_sql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0021_rollout_role.sql")
