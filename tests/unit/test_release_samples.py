"""The transactions that a replica is tried with are valid ones of every contract."""

from __future__ import annotations

import json

import pytest

from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_core.contract import Contract
from fraud_rollout.over_http.samples import as_batch, sample_records

CONTRACTS = sorted((CONFIG_DIR / "contracts").glob("*.yaml"))


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_a_contract_has_samples(path: object) -> None:
    contract = Contract.from_mapping(read_yaml(path))  # type: ignore[arg-type]
    records = sample_records(contract, 20, "release-1")
    assert json.loads(json.dumps(records)) == records
    batch = as_batch(contract, records)
    assert batch.ids == [f"release-1-{row}" for row in range(20)]
    differing = [len({json.dumps(one[field.name]) for one in records}) for field in contract.inputs]
    assert max(differing) > 5
