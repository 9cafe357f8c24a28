"""Labels as of a time that has not come are refused."""

from fraud_db.migrations.script import run_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0009_labels_ahead_refused.sql")
