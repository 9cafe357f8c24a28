"""`python -m fraud_batch <verb>`; `--help` names the verbs."""

import os
import sys

# Must be set before XGBoost loads OpenMP: on a busy machine spinning threads slow it tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# XGBoost imports scikit-learn if it is installed, for classes that are not used here.
sys.modules["sklearn"] = None  # type: ignore[assignment]

from fraud_adapters import job  # noqa: E402
from fraud_batch.job import main  # noqa: E402

del sys.modules["sklearn"]

if __name__ == "__main__":
    job.run("fraud_batch", main)
