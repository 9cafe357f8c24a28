"""The decisions to train, and who works on a trigger."""

from fraud_db.migrations.script import run_sql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0012_retraining_decisions.sql")
