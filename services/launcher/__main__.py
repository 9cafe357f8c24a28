"""`./fraud COMMAND`: Python runs this folder, and finds the package beside this file."""

import sys
from pathlib import Path

# `config` lies in the root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fraud_launcher.commands import main

sys.exit(main(sys.argv[1:]))
