"""Labels as of a time that has not come are refused."""

from fraud_db.migrations.script import run_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0010_labels_ahead_refused.sql")
