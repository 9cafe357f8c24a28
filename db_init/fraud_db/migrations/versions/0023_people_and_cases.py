"""People, and the cases they work on."""

from fraud_db.migrations.script import run_sql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0023_people_and_cases.sql")
