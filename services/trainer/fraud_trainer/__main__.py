"""`python -m fraud_trainer <verb>`; `--help` names the verbs."""

import os
import sys

# Must be set before XGBoost loads OpenMP: on a busy machine spinning threads slow training tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# XGBoost imports scikit-learn if it is installed. That takes half of the start-up time, for classes that are
# not used here; the candidates that need scikit-learn import it when they are fitted.
sys.modules["sklearn"] = None  # type: ignore[assignment]

from fraud_adapters import job  # noqa: E402
from fraud_trainer.job import main  # noqa: E402

del sys.modules["sklearn"]

if __name__ == "__main__":
    job.run("fraud_trainer", main)
