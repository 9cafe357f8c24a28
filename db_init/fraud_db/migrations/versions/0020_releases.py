"""Releases: their stages, what each arm did, and rights of the API."""

from fraud_db.migrations.script import run_sql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0020_releases.sql")
