"""`python -m fraud_embedded demo | status | follow | …`: what `./fraud demo…` calls."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Final

from config.settings import ConfigurationError
from fraud_adapters.kafka import KafkaFailure
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_embedded import operations
from fraud_embedded.installation import Layout, default_layout
from fraud_embedded.platform import OPERATOR
from fraud_embedded.processes.process import StartFailed
from fraud_embedded.progress import Progress
from fraud_embedded.servers.account import NoUsableDirectory
from fraud_launcher import lock_file

# What starts or stops servers, by its name as a command.
_EXCLUSIVE_VERBS: Final = {"demo": "demo", "follow": "follow", "down": "demo-down", "clean": "demo-clean"}


def main(arguments: Sequence[str]) -> int:
    """Run one verb; 0 done, 1 failed, 2 wrong configuration, 3 not running."""
    layout = default_layout()
    environ = dict(os.environ)
    if arguments[:1] == ["airflow"]:
        # Its options are Airflow's to read.
        return operations.airflow_command(operations.existing(layout, environ), list(arguments[1:]))
    options = _parser().parse_args(arguments)
    if options.verb in _EXCLUSIVE_VERBS:
        with lock_file.hold(layout.lock, f"./fraud {_EXCLUSIVE_VERBS[options.verb]}"):
            return _run_exclusive(options, layout, environ)
    if options.verb == "status":
        return operations.status(layout, environ)
    if options.verb == "unpause":
        return operations.unpause(layout, environ)
    if options.verb == "logs":
        return operations.logs(layout, options.service)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    return operations.execute(operations.existing(layout, environ), options.role, command)


def _run_exclusive(options: argparse.Namespace, layout: Layout, environ: dict[str, str]) -> int:
    """What starts or stops servers, one at a time."""
    if options.verb == "demo":
        return _demo(as_json=options.json)
    if options.verb == "follow":
        return operations.follow(layout, environ, end=options.stop)
    return operations.down(layout) if options.verb == "down" else operations.clean(layout)


def _demo(*, as_json: bool) -> int:
    from fraud_embedded import demo  # noqa: PLC0415 - the other verbs answer faster without it
    from fraud_embedded.summary import render  # noqa: PLC0415

    with Progress(sys.stderr) as progress:
        summary = demo.run(default_layout(), progress)
    print(json.dumps(summary.as_dict(), indent=2, default=str) if as_json else render(summary))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fraud_embedded", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    demo = verbs.add_parser("demo", help="start everything, train a model, score live transactions")
    demo.add_argument("--json", action="store_true", help="print the summary as JSON, alone on stdout")
    verbs.add_parser("status", help="what runs")
    follow = verbs.add_parser("follow", help="start the long-lived consumer beside the running platform")
    follow.add_argument("--stop", action="store_true", help="stop it")
    verbs.add_parser("unpause", help="let the real-time, the monitoring and the training DAGs run")
    verbs.add_parser("airflow", help="Airflow's own command line")
    logs = verbs.add_parser("logs", help="the ends of the logs")
    logs.add_argument("service", nargs="?", help="follow this one")
    verbs.add_parser("down", help="stop everything, keep the data")
    verbs.add_parser("clean", help="stop everything, remove the data")
    execute = verbs.add_parser("exec", help="run a command with a role's addresses and credentials")
    execute.add_argument("--role", default=OPERATOR)
    execute.add_argument("command", nargs=argparse.REMAINDER)
    return parser


def _run() -> int:
    from fraud_embedded.jobs import JobEnded  # noqa: PLC0415

    try:
        return main(sys.argv[1:])
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    except lock_file.LockHeld as holder:
        print(
            f"failed: {holder} is at work here: wait for its end, or end it with Ctrl-C or kill.",
            file=sys.stderr,
        )
        return 1
    except (StartFailed, NoUsableDirectory, JobEnded, DatabaseUnavailable, KafkaFailure) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has read enough; nothing is left to write at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("Interrupted: what was started runs on; ./fraud demo-down stops it.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(_run())
