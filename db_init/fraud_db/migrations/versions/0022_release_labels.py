"""What is known of the truth about a release's traffic."""

from fraud_db.migrations.script import run_sql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0022_release_labels.sql")
