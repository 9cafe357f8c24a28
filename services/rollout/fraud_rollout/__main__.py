"""`python -m fraud_rollout <verb>`; `--help` names the verbs."""

from fraud_adapters import job
from fraud_rollout.job import main

if __name__ == "__main__":
    job.run("fraud_rollout", main)
