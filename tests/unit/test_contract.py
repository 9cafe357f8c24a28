from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_core.batch import Batch
from fraud_core.contract import Contract, ContractError
from fraud_core.features import feature_matrix

CREDITCARD = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))
AMOUNT = {"name": "amount", "type": "decimal", "precision": 8, "scale": 2}
FEATURE = {"name": "amount", "op": "field", "of": "amount"}


def test_creditcard_is_the_kaggle_format_with_thirty_features() -> None:
    assert CREDITCARD.schema_id == "creditcard/1"
    assert [field.name for field in CREDITCARD.inputs] == ["time", *(f"v{i}" for i in range(1, 29)), "amount"]
    assert len(CREDITCARD.feature_names) == 30
    assert "time" not in CREDITCARD.feature_names


@pytest.mark.parametrize(
    ("fields", "features", "sentence"),
    [
        ([AMOUNT, AMOUNT], [FEATURE], "two fields have the same name"),
        ([AMOUNT], [{**FEATURE, "of": "nothing"}], "nothing, which is not a field"),
        ([AMOUNT], [{**FEATURE, "op": "modulo"}], "modulo needs `by`"),
        ([{"name": "kind", "type": "category"}], [FEATURE], "list its values"),
        ([{**AMOUNT, "scale": 9}], [FEATURE], "scale exceeds precision"),
        ([{**AMOUNT, "name": "event_time"}], [FEATURE], "part of every record"),
        ([{**AMOUNT, "role": "label"}], [FEATURE], "required: false"),
        ([{**AMOUNT, "role": "label", "required": False}], [FEATURE], "uses the label"),
        ([AMOUNT], [], "features"),
        ([{"name": "hour", "type": "integer", "max": 23.5}], [FEATURE], "whole numbers"),
    ],
)
def test_a_wrong_contract_is_named(fields: list[Any], features: list[Any], sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        Contract.from_mapping({"name": "x", "version": 1, "fields": fields, "features": features})


def test_features_follow_their_definitions() -> None:
    columns = {
        "sent_amount": np.array([1.5, 2.0]),
        "fee": np.array([np.nan, 0.25]),
        "urgent": np.array([1.0, 0.0]),
        "hour": np.array([13.0, 11.0]),
        "channel": np.array(["web", None], dtype=object),
    }
    matrix = feature_matrix(WIRE, Batch(["a", "b"], [], columns))
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    np.testing.assert_array_equal(
        matrix, np.array([[1.5, np.nan, 1, 1, 1, 0], [2, 0.25, 0, 11, 0, 0]], np.float32)
    )
