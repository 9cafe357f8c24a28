"""Airflow's command line, which also accepts some familiar options of Airflow 2.

`dags list-runs -d DAG` and `--dag-id DAG` name the DAG as `dags list-runs DAG` does. In the image it is
`airflow` on PATH; it completes the environment first (environment.py).
"""

from __future__ import annotations

import sys
import warnings

from environment import SecretUnreadable, complete_environment


def translated(arguments: list[str]) -> list[str]:
    """The arguments in the form of Airflow 3."""
    if arguments[:2] != ["dags", "list-runs"]:
        return arguments
    rest: list[str] = []
    for argument in arguments[2:]:
        name, equals, value = argument.partition("=")
        if name in {"-d", "--dag-id"}:
            rest += [value] if equals else []
        else:
            rest.append(argument)
    return [*arguments[:2], *rest]


def main() -> None:
    try:
        complete_environment()
    except SecretUnreadable as error:
        sys.exit(_report(error))
    # Every command about DAGs would print this warning, but only drawing a DAG needs graphviz.
    warnings.filterwarnings("ignore", message="Could not import graphviz")
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", *translated(sys.argv[1:])]
    # Importing Airflow has added our plugins to the path.
    from airflow_local_settings import RunRefused

    try:
        airflow()  # type: ignore[no-untyped-call]
    except RunRefused as error:
        sys.exit(str(error))


def _report(error: SecretUnreadable) -> int:
    print(error, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
