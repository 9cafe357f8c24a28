import codecs
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from fraud_core.labels import LabelEvent, parse_label
from fraud_core.manifest import Calibration, Manifest
from fraud_core.record_model import Reason

ARRIVAL = datetime(2026, 3, 1, tzinfo=UTC)
# Computed before the manifest had optional fields.
FORMAT_1_DIGEST = "e3912d775647bf4d7ded45d35d2059aa93868dad5071e0f2e2ae4bd262a022f7"
MESSAGE = {"transaction_id": "t1", "label": 1, "source": "chargeback", "reported_at": "2026-02-01T00:00:00Z"}


def label(**values: Any) -> LabelEvent | tuple[Reason, str]:
    return parse_label(json.dumps({**MESSAGE, **values}).encode(), ARRIVAL)


def test_the_same_report_twice_is_one_label() -> None:
    first, second = label(), label()
    assert isinstance(first, LabelEvent)
    assert first == second
    assert first.reported_at == datetime(2026, 2, 1, tzinfo=UTC)
    other = label(label=0)
    assert isinstance(other, LabelEvent)
    assert other.label_id != first.label_id


def test_arrival_stands_in_for_a_missing_report_time() -> None:
    content = {name: value for name, value in MESSAGE.items() if name != "reported_at"}
    event = parse_label(json.dumps(content).encode(), ARRIVAL)
    assert isinstance(event, LabelEvent)
    assert event.reported_at == ARRIVAL


def test_a_label_may_begin_with_a_byte_order_mark() -> None:
    assert parse_label(codecs.BOM_UTF8 + json.dumps(MESSAGE).encode(), ARRIVAL) == label()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (None, Reason.EMPTY),
        (b"{", Reason.NOT_JSON),
        (json.dumps(MESSAGE).encode("utf-16"), Reason.NOT_JSON),
        (json.dumps(MESSAGE).encode("utf-32-be"), Reason.NOT_JSON),
        (b"[" * 50_000, Reason.NOT_JSON),
        (b"[]", Reason.NOT_OBJECT),
        (json.dumps({**MESSAGE, "label": 2}).encode(), Reason.OUT_OF_RANGE),
        (json.dumps({**MESSAGE, "label": True}).encode(), Reason.WRONG_TYPE),
        (json.dumps({**MESSAGE, "source": "implied"}).encode(), Reason.OUT_OF_RANGE),
        (json.dumps({**MESSAGE, "transaction_id": "a b"}).encode(), Reason.WRONG_TYPE),
        (json.dumps({**MESSAGE, "label_id": "7"}).encode(), Reason.WRONG_TYPE),
        (json.dumps({**MESSAGE, "reported_at": "yesterday"}).encode(), Reason.WRONG_TYPE),
        (json.dumps({**MESSAGE, "more": 1}).encode(), Reason.UNKNOWN_FIELD),
        (json.dumps(MESSAGE).encode()[:-1] + b', "label": 0}', Reason.DUPLICATE_KEY),
        (json.dumps({"label": 1}).encode(), Reason.MISSING_FIELD),
    ],
)
def test_what_is_no_label_is_refused_with_a_reason(payload: bytes | None, reason: Reason) -> None:
    outcome = parse_label(payload, ARRIVAL)
    assert isinstance(outcome, tuple)
    assert outcome[0] == reason


def manifest(**values: Any) -> Manifest:
    content: dict[str, Any] = {
        "contract": "creditcard",
        "contract_version": 1,
        "features": ("amount",),
        "threshold": 0.5,
        "block_threshold": 0.9,
        "threshold_rule": "best F1",
        "calibration": Calibration(slope=1, intercept=0),
        "metrics": {"recall": 0.97},
        "data_from": ARRIVAL,
        "data_to": ARRIVAL,
        "created_at": ARRIVAL,
        "code_version": "unknown",
        "engines": {"xgboost": "model.ubj", "onnx": "model.onnx"},
        "digests": {"model.ubj": "0" * 64, "model.onnx": "1" * 64},
    }
    return Manifest(**{**content, **values})


def test_a_manifest_survives_its_file_and_its_digest_covers_everything() -> None:
    one = manifest()
    again = Manifest.from_json(one.to_json())
    assert again == one
    assert again.digest() == one.digest()
    assert manifest(threshold=0.51).digest() != one.digest()
    assert manifest(digests={"model.ubj": "2" * 64, "model.onnx": "1" * 64}).digest() != one.digest()


def test_a_manifest_of_before_the_reference_profile_keeps_its_digest() -> None:
    """Stored versions are recorded with the digest of their canonical JSON."""
    stored = manifest().to_json()
    assert b"profile" not in stored
    assert hashlib.sha256(stored).hexdigest() == Manifest.from_json(stored).digest() == FORMAT_1_DIGEST
    files = {"model.ubj": "0" * 64, "model.onnx": "1" * 64, "profile.json": "2" * 64}
    later = manifest(profile="profile.json", digests=files)
    assert Manifest.from_json(later.to_json()) == later
    other = manifest(profile="profile.json", digests={**files, "profile.json": "3" * 64})
    assert later.digest() != other.digest()


def test_a_manifest_written_before_there_were_candidates_keeps_its_digest() -> None:
    digests = f'"model.onnx":"{"1" * 64}","model.ubj":"{"0" * 64}"'
    stored = (
        '{"block_threshold":0.8,"calibration":{"intercept":-0.5,"method":"sigmoid","slope":1.25},"code_version":"abc",'
        '"contract":"tiny","contract_version":2,"created_at":"2026-02-02T00:00:00Z",'
        '"data_from":"2026-01-01T00:00:00Z","data_to":"2026-02-01T00:00:00Z","digests":{' + digests + "},"
        '"engines":{"onnx":"model.onnx","xgboost":"model.ubj"},"features":["x0","x1"],"format":1,'
        '"metrics":{"precision":null,"recall":0.96},"threshold":0.4,"threshold_rule":"by hand"}'
    ).encode()
    read = Manifest.from_json(stored)
    assert read.to_json() == stored
    assert read.digest() == "b81156266bc0d00585523a3004939f985856e5c24d9c48f80fa6648a379dde60"
    assert (read.candidate, read.members, read.preparation, read.width) == (None, (), None, 2)


def test_candidate_members_and_preparation_are_covered_by_the_digest() -> None:
    column = {"name": "amount", "feature": "amount", "center": 1.5, "scale": 2.0}
    full = manifest(
        candidate="voting",
        members=({"name": "xgboost", "weight": 0.5, "slope": 1.0, "intercept": 0.25},),
        preparation={"columns": [column, {"name": "b", "feature": "amount", "kind": "missing"}]},
        engines={"onnx": "model.onnx"},
        digests={"model.onnx": "1" * 64},
    )
    assert Manifest.from_json(full.to_json()) == full
    assert full.width == 2
    for changes in (
        {"candidate": "xgboost"},
        {"members": ()},
        {"preparation": None},
        {"preparation": {"columns": [column]}},
    ):
        assert Manifest.model_validate({**full.model_dump(), **changes}).digest() != full.digest()


@pytest.mark.parametrize(
    "wrong",
    [
        {"profile": "profile.json"},
        {"digests": {"model.ubj": "0" * 64, "model.onnx": "1" * 64, "profile.json": "2" * 64}},
        {"block_threshold": 0.4},
        {"engines": {"xgboost": "model.ubj"}, "digests": {"model.ubj": "0" * 64}},
        {"digests": {"model.ubj": "0" * 64}},
        {
            "engines": {"xgboost": "../model.ubj", "onnx": "model.onnx"},
            "digests": {"../model.ubj": "0", "model.onnx": "1"},
        },
        {"calibration": {"method": "sigmoid", "slope": -1, "intercept": 0}},
    ],
)
def test_an_incoherent_manifest_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        manifest(**wrong)
