"""Public data sets that `./fraud data` fetches. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 2**20


class DataFailure(Exception):
    """A file cannot be fetched or is not what it should be; one sentence with the fix."""


class NotConfigured(DataFailure):
    """Credentials are missing or refused: no retry helps until somebody does something at Kaggle."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One file of a Kaggle data set, and its published shape.

    Attributes:
        file: its name in our folder.
        slug: owner and name at Kaggle.
        member: its name in the archive that Kaggle sends.
        header: its columns.
        label: the column that is 1 for a fraud.
        rows, frauds: as published on the data set's page.
        most_bytes: more than the file has, so that an archive cannot fill the disk.
    """

    name: str
    file: str
    slug: str
    member: str
    header: tuple[str, ...]
    label: str
    rows: int
    frauds: int
    most_bytes: int

    def page(self, site: str) -> str:
        return f"{site}/datasets/{self.slug}"


CREDITCARD: Final = DataSet(
    name="creditcard",
    file="creditcard.csv",
    slug="mlg-ulb/creditcardfraud",
    member="creditcard.csv",
    header=("Time", *(f"V{number}" for number in range(1, 29)), "Amount", "Class"),
    label="Class",
    rows=284_807,
    frauds=492,
    most_bytes=300 * MIB,
)
PAYSIM: Final = DataSet(
    name="paysim",
    file="paysim.csv",
    slug="ealaxi/paysim1",
    member="PS_20174392719_1491204439457_log.csv",
    header=(
        "step",
        "type",
        "amount",
        "nameOrig",
        "oldbalanceOrg",
        "newbalanceOrig",
        "nameDest",
        "oldbalanceDest",
        "newbalanceDest",
        "isFraud",
        "isFlaggedFraud",
    ),
    label="isFraud",
    rows=6_362_620,
    frauds=8_213,
    most_bytes=1000 * MIB,
)
DATA_SETS: Final = {data_set.name: data_set for data_set in (CREDITCARD, PAYSIM)}
