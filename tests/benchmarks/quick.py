"""The benchmarks with a floor, shortened, one after another on the same servers: `./fraud bench --quick`.

It takes two minutes on a machine of its own and shows that each works and roughly where it stands; results
for others to read come from each alone. `--json FILE` takes the figures of all.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import batch, latency, machine, predict, rounds, stream
from tests.benchmarks.servers import running

ALL: Final = {"predict": predict, "batch": batch, "stream": stream, "latency": latency}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./fraud bench --quick",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go as JSON")
    chosen = parser.parse_args()
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    started = time.monotonic()
    with running(rounds.creditcard(), latency.SETTING) as servers:
        result: dict[str, Any] = {"origin": machine.origin(servers.stack.postgres.url())}
        print(f"{result['origin']} Load before: {machine.load():.1f}.", flush=True)
        for name, module in ALL.items():
            print(f"\n# {name} ({time.monotonic() - started:.0f} s)\n", flush=True)
            result[name] = module.run(servers, module.options(["--quick"]))
    print(f"\n{time.monotonic() - started:.0f} s")
    rounds.save(chosen.json, result)


if __name__ == "__main__":
    main()
