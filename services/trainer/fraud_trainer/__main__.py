"""`python -m fraud_trainer <verb>`; `--help` names the verbs."""

import os

# Before XGBoost loads OpenMP: threads that wait by spinning slow training tenfold on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from fraud_adapters import job
from fraud_trainer.job import main

if __name__ == "__main__":
    job.run("fraud_trainer", main)
