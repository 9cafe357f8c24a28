"""`python -m fraud_trainer load | features | train | validate | register | run`."""

from fraud_adapters import job
from fraud_trainer.job import main

if __name__ == "__main__":
    job.run("fraud_trainer", main)
