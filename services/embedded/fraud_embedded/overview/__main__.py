"""`python -m fraud_embedded.overview`: serve the overview of the installation in this directory."""

from __future__ import annotations

import os
import sys

import uvicorn

from config.settings import ConfigurationError
from fraud_embedded import addresses
from fraud_embedded.addresses import Addresses
from fraud_embedded.installation import default_layout, read_settings
from fraud_embedded.overview.app import create_app
from fraud_embedded.overview.snapshot import Snapshots
from fraud_embedded.overview.sources import sources_of
from fraud_embedded.platform import configure
from fraud_embedded.processes import probes


def main() -> int:
    layout = default_layout()
    try:
        kept = addresses.read(layout.state_file)
        if kept is None:
            raise ConfigurationError("Nothing runs here: start the platform with ./fraud demo.")
        platform = configure(layout, Addresses(kept), read_settings(layout, os.environ))
        snapshots = Snapshots(sources_of(platform))
    except ConfigurationError as error:
        print(f"configuration: {error}", file=sys.stderr)
        return 2
    uvicorn.run(
        create_app(snapshots.current, snapshots.close),
        host=probes.HOST,
        port=platform.addresses.overview,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
