"""The rights of batch prediction."""

from fraud_db.migrations.script import run_sql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0014_batch.sql")
