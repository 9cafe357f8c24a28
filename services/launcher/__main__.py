"""`./fraud COMMAND`: Python runs this folder and finds the package next to this file."""

import sys
from pathlib import Path

# The package `config` is in the root folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fraud_launcher.commands import main

sys.exit(main(sys.argv[1:]))
