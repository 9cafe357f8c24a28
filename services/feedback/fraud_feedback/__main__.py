"""`python -m fraud_feedback <verb>`; `--help` names the verbs."""

from fraud_adapters import job
from fraud_feedback.job import main

if __name__ == "__main__":
    job.run("fraud_feedback", main)
