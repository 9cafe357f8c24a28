"""`python -m fraud_trainer <verb>`; `--help` names the verbs."""

import os
import sys

# Before XGBoost loads OpenMP: threads that wait by spinning slow training tenfold on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# XGBoost imports scikit-learn, and with it pandas, wherever it is installed, as it is beside MLflow: that is
# half of a start, for classes that nothing here uses.
sys.modules["sklearn"] = None  # type: ignore[assignment]

from fraud_adapters import job  # noqa: E402
from fraud_trainer.job import main  # noqa: E402

if __name__ == "__main__":
    job.run("fraud_trainer", main)
