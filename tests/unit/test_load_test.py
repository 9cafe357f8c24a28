"""The load test: what its users send, and whose API they send it to."""

import json
from pathlib import Path

import pytest

from config import services
from config.text_files import read_utf8
from fraud_core.contract import Contract
from fraud_core.record_model import record_model
from fraud_launcher import load_test, paths
from fraud_launcher.bootstrap import LauncherError
from tests.load.records import RecordSource
from tests.support.stored_rows import CREDITCARD, WIRE

ROOT = Path(__file__).resolve().parents[2]
EXTREME = Contract.from_mapping(
    {
        "name": "extreme",
        "version": 1,
        "fields": [
            {"name": "narrow", "type": "decimal", "precision": 3, "scale": 2, "role": "amount"},
            {"name": "whole", "type": "integer", "precision": 15},
            {"name": "half_open", "type": "integer", "min": 5, "below": 6},
            {"name": "negative", "type": "decimal", "precision": 4, "scale": 1, "max": -3.5},
            {"name": "letter", "type": "text", "max_length": 1},
            {"name": "card", "type": "text", "max_length": 3, "role": "card"},
        ],
        "features": [{"name": "narrow", "op": "field", "of": "narrow"}],
    }
)


@pytest.mark.parametrize("contract", [CREDITCARD, WIRE, EXTREME], ids=lambda contract: contract.name)
def test_users_send_what_the_contract_allows(contract: Contract) -> None:
    records = RecordSource(contract, seed=1).records(500)
    model = record_model(contract)
    for record in records:
        model.model_validate_json(json.dumps(record))
    assert len({json.dumps(record) for record in records}) > 50
    label = contract.label_field
    assert not any(label is not None and label.name in record for record in records)
    seen = {name for record in records for name in record}
    assert seen == {field.name for field in contract.inputs}


def test_the_shipped_body_is_one_transaction_without_an_id() -> None:
    body = (ROOT / "tests" / "load" / "transaction.json").read_text()
    record_model(CREDITCARD).model_validate_json(body)
    assert "transaction_id" not in json.loads(body)


def test_no_image_and_no_demo_holds_the_load_generator() -> None:
    holding = {
        name for name in services.groups() if "\nlocust==" in read_utf8(ROOT / "requirements" / f"{name}.txt")
    }
    assert holding == {"load", "test"}


def test_credentials_of_the_environment_name_the_api(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_CLIENT_SECRET_STREAMING=of-the-file\n")
    assert load_test.variables(tmp_path, {"API_CLIENT_SECRET": "of-elsewhere"}) == {}


def test_the_platform_on_compose_is_put_under_load_as_the_stream_s_client(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_CLIENT_SECRET_STREAMING=of-the-file\nFRAUD_CONTRACT=wire\n")
    assert load_test.variables(tmp_path, {"PUBLISH_API": "8100"}) == {
        "API_URL": "http://localhost:8100",
        "API_CLIENT_ID": "streaming",
        "API_CLIENT_SECRET": "of-the-file",
        "FRAUD_CONTRACT": "wire",
    }


def test_the_running_demo_tells_its_own_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("API_CLIENT_SECRET_STREAMING=of-the-file\n")
    monkeypatch.setattr(paths, "runs", lambda local: local == tmp_path / ".local")
    assert load_test.variables(tmp_path, {}) is None


def test_without_a_platform_there_is_nothing_to_put_under_load(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match=r"start one by \./fraud demo or \./fraud up"):
        load_test.variables(tmp_path, {})
