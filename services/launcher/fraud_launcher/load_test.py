"""Whose API `./fraud load` puts under load, and as which client. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from config.services import client_secret
from fraud_launcher import dotenv, paths
from fraud_launcher.bootstrap import LauncherError

CLIENT: Final = "streaming"  # it may call what scores, and nothing else
# Locust itself would let the whole network in.
OPTIONS: Final = ("--locustfile", "tests/load/locustfile.py", "--web-host", "127.0.0.1", "--web-port", "8089")
_PORT: Final = "8000"


def variables(root: Path, environ: Mapping[str, str]) -> dict[str, str] | None:
    """What the load test needs in its environment; None where the embedded platform runs, which knows it.

    Credentials in the environment win, so that a platform elsewhere can be put under load; then comes the
    embedded platform, then the platform on Docker Compose, by its `.env`.

    Raises:
        LauncherError: there is no platform here and the environment names none.
    """
    if environ.get("API_CLIENT_SECRET"):
        return {}
    if paths.runs(root / ".local"):
        return None
    try:
        settings = dotenv.read(root / ".env")
    except FileNotFoundError:
        settings = {}
    except dotenv.BadDotenv as error:
        raise LauncherError(str(error)) from None
    if not (secret := settings.get(client_secret(CLIENT))):
        raise LauncherError(
            "There is no platform to put under load: start one by ./fraud demo or ./fraud up, "
            "or set API_URL, API_CLIENT_ID and API_CLIENT_SECRET."
        )
    chosen = {name: settings[name] for name in ("FRAUD_CONTRACT", "FRAUD_CONTRACTS_DIR") if name in settings}
    port = environ.get("PUBLISH_API") or settings.get("PUBLISH_API") or _PORT
    return {
        "API_URL": environ.get("API_URL") or f"http://localhost:{port}",
        "API_CLIENT_ID": CLIENT,
        "API_CLIENT_SECRET": secret,
        **{name: environ.get(name) or value for name, value in chosen.items()},
    }
