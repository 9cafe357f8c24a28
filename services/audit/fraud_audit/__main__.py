"""`python -m fraud_audit serve | users add, list, passwd, lock, unlock, role`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fraud_adapters.job import Result, run
from fraud_audit import users


def main(arguments: Sequence[str]) -> Result:
    parser = argparse.ArgumentParser(prog="fraud_audit", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="answer requests until stopped")
    users.add_arguments(verbs.add_parser("users", help="manage who may log in"))
    options = parser.parse_args(arguments)
    if options.verb == "users":
        return users.main(options)
    # Imported here because the commands need no server.
    from fraud_audit.server import serve  # noqa: PLC0415

    return serve()


if __name__ == "__main__":
    run("audit", main)
