"""`python -m tests.integration.changed_api serve`: the API with other constants.

Deadlines of a minute are thus tested in seconds; `API_CONSTANTS=body_limit.BODY_SECONDS=1,…` sets them.
"""

from __future__ import annotations

import os
from importlib import import_module

from fraud_adapters.job import run
from fraud_api.__main__ import main

if __name__ == "__main__":
    for assignment in os.environ["API_CONSTANTS"].split(","):
        name, value = assignment.split("=")
        module, constant = name.split(".")
        setattr(import_module(f"fraud_api.{module}"), constant, int(value))
    run("api", main)
