"""`python -m fraud_embedded.doctor [--json] [--target demo|compose]`: what `./fraud doctor` calls.

Exit code 0 without a problem, 1 with one.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Sequence

from config.constants import PROCESS_ENVIRONMENT
from config.settings import ConfigurationError
from fraud_embedded.doctor import examination
from fraud_embedded.doctor.target import Target, find
from fraud_embedded.installation import default_layout, read_settings
from fraud_launcher.doctor import parser
from fraud_launcher.findings import document, has_problem, render


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    # The servers are on this machine, whatever proxy the environment names.
    os.environ |= {name: PROCESS_ENVIRONMENT[name] for name in ("NO_PROXY", "no_proxy")}
    logging.disable(logging.ERROR)
    started = time.monotonic()
    layout = default_layout()
    try:
        settings = read_settings(layout, os.environ)
    except ConfigurationError:
        settings = {}  # the check of the variables says what is wrong
    target: Target = find(layout, settings, options.target)
    checks = [
        *examination.machine(target, layout, os.environ),
        *examination.servers(target, layout),
        *examination.containers(target, layout),
    ]
    findings = examination.examine(checks, target)
    if options.json:
        print(
            json.dumps(document(target.kind, target.running, findings, time.monotonic() - started), indent=2)
        )
    else:
        print(render(findings))
    return 1 if has_problem(findings) else 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # A check that hangs leaves a thread behind, which must not delay the end.
    os._exit(code)
