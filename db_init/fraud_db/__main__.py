"""`python -m fraud_db bootstrap | upgrade | prepare | verify`: databases, roles, migrations, their check."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from config import settings
from fraud_adapters import job
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_db.bootstrap import Passwords, bootstrap
from fraud_db.environment import AdminSettings, BootstrapSettings
from fraud_db.upgrade import upgrade
from fraud_db.verify import verify


def _bootstrap() -> job.Result:
    values = settings.load(BootstrapSettings)
    passwords = Passwords(
        owner=values.db_password.get_secret_value(),
        mlflow=values.mlflow_db_password.get_secret_value(),
        airflow=values.airflow_db_password.get_secret_value(),
        services={name: secret.get_secret_value() for name, secret in values.service_passwords.items()},
    )
    try:
        bootstrap(values.admin_url, passwords, values.db_name, values.db_user)
    except DatabaseUnavailable as error:
        if "password authentication failed" not in str(error):
            raise
        raise settings.ConfigurationError(
            f"{values.admin_secret}: the superuser's password is not the one the data was made with: "
            "restore it, or remove the database's data to start afresh."
        ) from None
    return {"status": "done", "database": values.db_name, "owner": values.db_user}


def _upgrade() -> job.Result:
    labels = settings.parameters(settings.load(settings.PlatformSettings)).labels
    revision = upgrade(settings.load(settings.DatabaseSettings).url, labels)
    return {"status": "done", "revision": revision}


def _prepare() -> job.Result:
    """Prepare a new or older installation for the start of its services."""
    return {**_bootstrap(), **_upgrade()}


def _verify() -> job.Result:
    admin_url = settings.load(AdminSettings).admin_url
    problems = verify(settings.load(settings.DatabaseSettings).url, admin_url)
    if problems:
        raise LastingFailure(f"The database is not as it should be: {problems[0]}.", {"problems": problems})
    return {"status": "done", "problems": []}


_VERBS = {"bootstrap": _bootstrap, "upgrade": _upgrade, "prepare": _prepare, "verify": _verify}


def main(arguments: Sequence[str]) -> job.Result:
    parser = argparse.ArgumentParser(prog="python -m fraud_db", description=__doc__)
    parser.add_argument("verb", choices=_VERBS)
    return _VERBS[parser.parse_args(arguments).verb]()


if __name__ == "__main__":
    job.run("fraud_db", main)
