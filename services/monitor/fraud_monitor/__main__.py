"""`python -m fraud_monitor <verb>`; `--help` names the verbs."""

from fraud_adapters import job
from fraud_monitor.job import main

if __name__ == "__main__":
    job.run("fraud_monitor", main)
