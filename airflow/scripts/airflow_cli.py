"""Airflow's command line, which also takes the options of Airflow 2 that people have in their fingers.

`dags list-runs -d DAG` and `--dag-id DAG` name the DAG as `dags list-runs DAG` does. In the image it is
`airflow` on PATH; it completes the environment first (environment.py).
"""

from __future__ import annotations

import sys
import warnings

from environment import Unreadable, complete


def translated(arguments: list[str]) -> list[str]:
    """The arguments as Airflow 3 takes them."""
    if arguments[:2] != ["dags", "list-runs"]:
        return arguments
    rest: list[str] = []
    for word in arguments[2:]:
        name, equals, value = word.partition("=")
        if name in {"-d", "--dag-id"}:
            rest += [value] if equals else []
        else:
            rest.append(word)
    return [*arguments[:2], *rest]


def main() -> None:
    try:
        complete()
    except Unreadable as unreadable:
        sys.exit(_refused(unreadable))
    # Every command about DAGs would begin with it, and only drawing one to a file needs it.
    warnings.filterwarnings("ignore", message="Could not import graphviz")
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", *translated(sys.argv[1:])]
    # Airflow's start has put our plugins on the path.
    from airflow_local_settings import DatedAhead

    try:
        airflow()  # type: ignore[no-untyped-call]
    except DatedAhead as refused:
        sys.exit(str(refused))


def _refused(unreadable: Unreadable) -> int:
    print(unreadable, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
