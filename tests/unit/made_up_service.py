"""A program that prints, as JSON, how the platform treats an additional row in the table of services.

The row is added before anything else of ours is imported, as if it stood in `config/services.py`.
"""
# ruff: noqa: E402 - the row must be added before these imports

import json
import os
import sys
from pathlib import Path

from config import services
from config.services import Backend, Jobs, Service

ROW = Service(
    "night-watch",
    "watch",
    Jobs.SCHEDULED,
    frozenset({Backend.POSTGRES, Backend.KAFKA, Backend.OBJECT_STORE}),
    scopes=("read",),
    secrets=("WATCH_SECRET",),
)
services.SERVICES = (*services.SERVICES, ROW)

from config import constants
from config.parameters import load_parameters
from config.settings import CONFIG_DIR, ApiServerSettings
from fraud_airflow import jobs
from fraud_db.environment import BootstrapSettings
from fraud_embedded.addresses import Addresses
from fraud_embedded.installation import Layout
from fraud_embedded.platform import configure
from fraud_embedded.servers import account
from fraud_launcher import commands as launch
from fraud_launcher import dotenv
from fraud_launcher.bootstrap import PLATFORM

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "DB_PASSWORD_NIGHT_WATCH": "of-its-role",
    "API_CLIENT_SECRET_NIGHT_WATCH": "of-its-client",
    "WATCH_SECRET": "its-own",
}


def main(folder: Path) -> None:
    settings = dotenv.read(ROOT / ".env.example") | SECRETS
    os.environ |= settings
    account.database_account = lambda: None
    platform = configure(Layout(root=ROOT, local=folder), Addresses(0), settings)
    service = jobs.check_service(ROW.name)
    worker = {"DB_HOST": "db", "RUNS_AWS_ACCESS_KEY_ID": "id", "RUNS_AWS_SECRET_ACCESS_KEY": "key"} | SECRETS
    result = {
        "role": constants.SERVICE_ROLES[ROW.name],
        "password": BootstrapSettings().service_passwords[ROW.name].get_secret_value(),
        "secret": ApiServerSettings().client_secrets[ROW.name].get_secret_value(),
        "scopes": load_parameters(CONFIG_DIR, "development").serving.client_scopes[ROW.name],
        "locks": [name for name, group in services.groups().items() if ROW.folder in group.packages],
        "imported": ROW.folder in PLATFORM.sources,
        "typed": f"{ROW.folder}/{ROW.module}" in launch.TYPED,
        "embedded": sorted(platform.environment(ROW.name)),
        "bootstrap": platform.environment("bootstrap").get("DB_PASSWORD_NIGHT_WATCH"),
        "api": platform.environment("api").get("API_CLIENT_SECRET_NIGHT_WATCH"),
        "workers": sorted(
            name for name in platform.airflow().jobs if "WATCH" in name or name.startswith("RUNS_")
        ),
        "image": jobs.image_name(service, {}),
        "private": jobs.private_environment(service, worker),
        "fixed": service.fixed,
        "dags cannot set": [name for name in ("WATCH_SECRET", "API_CLIENT_ID") if name in jobs.RESERVED],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
