"""Putting dead letters back: as they were, repaired, once, and never what would only be refused again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg2
import pytest

from config.job_results.streaming import DeadLettersResult, ExportResult, RedriveResult
from config.settings import KafkaSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import Record
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.dead_letters import Selection, lock_dead_letters, mark_redriven
from fraud_streaming.dead_letters.listing import export, show
from fraud_streaming.dead_letters.redrive import (
    RedriveInstallation,
    RedriveOptions,
    redrive_repaired,
    redrive_selected,
)
from tests.support.api_server import ApiServer, cloned, scoring_server
from tests.support.stored_rows import Database
from tests.support.streaming_installation import StreamInstallation, creditcard_records, read_all
from tests.support.typed_results import mismatches
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def api(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("redrive-api")
    with (
        cloned(template, postgres_admin_url, "redrive_api") as database,
        scoring_server(database, directory) as server,
    ):
        yield server


@pytest.fixture
def installation(database: Database, topics: KafkaSettings, api: ApiServer) -> StreamInstallation:
    installation = StreamInstallation(database, topics, api.url)
    installation.streaming = installation.streaming.model_copy(update={"max_bad_share": 1.0})
    return installation


def redrive_installation(installation: StreamInstallation) -> RedriveInstallation:
    return RedriveInstallation(
        installation.contract, installation.installation.database, installation.kafka, installation.streaming
    )


DEFAULT_OPTIONS: Final = RedriveOptions()


def redrive(
    installation: StreamInstallation, *ids: int, terms: RedriveOptions = DEFAULT_OPTIONS, **chosen: Any
) -> RedriveResult:
    """Redrive these dead letters, or by default all that were not redriven yet."""
    chosen = {"ids": ids} if ids else {"not_redriven": not terms.again, **chosen}
    result = redrive_selected(redrive_installation(installation), Selection(**chosen), terms)
    assert list(mismatches(RedriveResult, json.loads(json.dumps(result)))) == []
    return result


def lines(path: Path, *content: Any) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in content))
    return path


def sent(installation: StreamInstallation) -> list[Record]:
    """Records of the transactions topic that were put back."""
    return [
        record
        for record in read_all(installation.kafka, installation.kafka.topic)
        if "redriven" in record.headers
    ]


def stored_dead_letters(installation: StreamInstallation) -> list[tuple[Any, ...]]:
    return installation.rows(
        "SELECT id, reason, redriven_at IS NOT NULL, redriven_from FROM dead_letters ORDER BY record_offset"
    )


def bad_records(installation: StreamInstallation) -> list[dict[str, Any]]:
    """Three that are set aside, at the offsets 0 to 2; the last one has no event time and is not JSON."""
    good = creditcard_records(["a", "b", "c"])
    del good[2]["event_time"]
    broken = json.dumps(good[2]).encode()[:-1]
    installation.send([good[0] | {"amount": "12"}, {k: v for k, v in good[1].items() if k != "v3"}, broken])
    assert installation.consume()["dead_lettered"] == {"wrong_type": 1, "missing_field": 1, "not_json": 1}
    return good


def test_what_is_exported_and_repaired_is_stored(installation: StreamInstallation, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    good = bad_records(installation)
    exported = tmp_path / "letters.jsonl"
    written = export(installation.installation.database, Selection(), None, exported)
    assert (written["exported"], list(mismatches(ExportResult, written))) == (3, [])
    listed = json.loads(json.dumps(show(installation.installation.database, Selection(), None)))
    assert (listed["total"], list(mismatches(DeadLettersResult, listed))) == (3, [])
    assert exported.stat().st_mode & 0o777 == 0o600
    exported_lines = [json.loads(line) for line in exported.read_text().splitlines()]
    exported_lines.sort(key=lambda line: line["origin"])
    assert [line["record"] and line["record"]["transaction_id"] for line in exported_lines] == [
        "a",
        "b",
        None,
    ]
    assert exported_lines[2]["payload"] == json.dumps(good[2])[:-1]
    with pytest.raises(JobFailed, match=r"letters\.jsonl exists"):
        export(installation.installation.database, Selection(), None, exported)
    repaired = lines(
        tmp_path / "repaired.jsonl", *[f | {"record": g} for f, g in zip(exported_lines, good, strict=True)]
    )
    assert redrive_repaired(redrive_installation(installation), repaired, RedriveOptions())["sent"] == 3
    assert {name: value.decode() for name, value in sent(installation)[0].headers.items()} == {
        "redriven": f"{installation.kafka.topic}/0/0",
        "origin_timestamp_ms": str(read_all(installation.kafka, installation.kafka.topic)[0].timestamp_ms),
        "schema": "creditcard/1",
    }
    assert [record.key for record in sent(installation)] == [b"a", b"b", b"c"]
    result = installation.consume()
    assert (result["stored"], result["dead_lettered"]) == (3, {})
    assert [row[2] for row in stored_dead_letters(installation)] == [True] * 3
    # Without a time of its own it happened when it was sent at first.
    at, timestamp = installation.rows(
        "SELECT t.event_time, d.record_timestamp_ms FROM transactions t, dead_letters d"
        " WHERE transaction_id = 'c' AND record_offset = 2"
    )[0]
    assert at == datetime.fromtimestamp(timestamp / 1000, UTC)
    assert before - timedelta(seconds=1) < at < datetime.now(UTC)


def test_a_second_time_nothing_is_sent_unless_asked_for(
    installation: StreamInstallation, tmp_path: Path
) -> None:
    good = bad_records(installation)
    ids = [row[0] for row in stored_dead_letters(installation)]
    repaired = lines(tmp_path / "r.jsonl", *[{"id": i, "record": g} for i, g in zip(ids, good, strict=True)])
    counts = []
    for terms in (
        RedriveOptions(dry_run=True),
        RedriveOptions(),
        RedriveOptions(),
        RedriveOptions(dry_run=True),
        RedriveOptions(again=True),
    ):
        result = redrive_repaired(redrive_installation(installation), repaired, terms)
        counts.append((result["sent"], result["already_redriven"], len(sent(installation))))
    assert counts == [(3, 0, 0), (3, 0, 3), (0, 3, 3), (0, 3, 3), (3, 0, 6)]
    consumed = installation.consume()
    assert (consumed["stored"], consumed["replayed"]) == (3, 3)


def test_records_are_put_back_as_they_were_once_the_fault_is_corrected(
    installation: StreamInstallation,
) -> None:
    installation.send(creditcard_records(["x", "y"]), headers={"schema": b"creditcard/0"})
    installation.send([b"{"])
    installation.consume()
    since = datetime.now(UTC) + timedelta(hours=1)
    assert redrive(installation, reason="schema_mismatch", since=since)["sent"] == 0
    assert redrive(installation, reason="schema_mismatch")["sent"] == 2
    assert redrive(installation, reason="schema_mismatch")["sent"] == 0
    assert installation.consume()["stored"] == 2
    assert [row[1:3] for row in stored_dead_letters(installation)] == [
        ("schema_mismatch", True),
        ("schema_mismatch", True),
        ("not_json", False),
    ]


def test_what_would_be_refused_again_is_not_sent_unless_asked_for(installation: StreamInstallation) -> None:
    bad_records(installation)
    result = redrive(installation)
    assert (result["sent"], result["refused"]) == (0, {"wrong_type": 1, "missing_field": 1, "not_json": 1})
    first, *_ = (row[0] for row in stored_dead_letters(installation))
    assert {"id": first, "why": "wrong_type, amount: Input should be a valid number"} in result[
        "refused_letters"
    ]
    with pytest.raises(JobFailed, match=rf"^Dead letter {first}: wrong_type, .*; nothing was sent\.$"):
        redrive(installation, first)
    assert sent(installation) == []
    assert redrive(installation, first, terms=RedriveOptions(check=False))["sent"] == 1
    installation.consume()
    assert stored_dead_letters(installation)[-1][1:] == (
        "wrong_type",
        False,
        f"{installation.kafka.topic}/0/0",
    )


def test_what_is_not_kept_whole_is_put_back_only_repaired(
    installation: StreamInstallation, tmp_path: Path
) -> None:
    whole = creditcard_records(["long"])[0]
    installation.send([json.dumps(whole | {"note": "x" * 30_000}).encode()])
    installation.send(creditcard_records(["short"]), headers={"schema": b"creditcard/0"})
    installation.consume()
    long, short = (row[0] for row in stored_dead_letters(installation))
    sentence = r"only 16384 of its 30\d+ bytes are kept: put it back repaired, with --file"
    with pytest.raises(JobFailed, match=rf"^Dead letter {long}: {sentence}; nothing was sent\.$"):
        redrive(installation, short, long)
    assert sent(installation) == []
    result = redrive(installation)
    assert (result["sent"], result["refused"]) == (1, {"incomplete": 1})
    exported = tmp_path / "letters.jsonl"
    assert export(installation.installation.database, Selection(), 1, exported)["incomplete"] == 1
    line = json.loads(exported.read_text())
    assert (line["id"], line["record"], line["complete"], len(line["payload"])) == (long, None, False, 16384)
    redrive_repaired(
        redrive_installation(installation),
        lines(tmp_path / "r.jsonl", line | {"record": whole}),
        RedriveOptions(),
    )
    assert installation.consume()["stored"] == 2


GOOD = creditcard_records(["ok"])[0]
BAD_FILES: dict[str, tuple[list[Any], str]] = {
    "no JSON": ([{"id": 1, "record": GOOD}, "{"], "line 2: is not JSON"),
    "not UTF-8": (["\udcff"], "line 1: is not JSON in UTF-8"),
    "nested": (["[" * 100_000], "line 1: is not JSON"),
    "no object": (["", "[1]"], "line 2: is not a JSON object"),
    "a name twice": (['{"id": 1, "id": 2, "record": {}}'], "line 1: a name is given twice"),
    "no id": ([{"record": GOOD}], "line 1: id: must be the number of a dead letter"),
    "true as id": ([{"id": True, "record": GOOD}], "line 1: id: must be the number"),
    "id beyond the database": ([{"id": 2**63, "record": GOOD}], "line 1: id: must be the number"),
    "no record": ([{"id": 1}], "line 1: record: must be the repaired record"),
    "as exported": ([{"id": 1, "record": None}], "line 1: record: must be the repaired record"),
    "unknown id": (
        [{"id": 1, "record": GOOD}, {"id": 99, "record": GOOD}],
        "line 2: there is no dead letter 99",
    ),
    "id twice": ([{"id": 1, "record": GOOD}] * 2, "line 2: the id 1 is given twice, first in line 1"),
    "still bad": (
        [{"id": 1, "record": GOOD}, {"id": 2, "record": {**GOOD, "amount": -1}}],
        "line 2: out_of_range, amount: Input should be greater than or equal to 0",
    ),
    "not finite": ([{"id": 1, "record": GOOD | {"amount": float("nan")}}], "line 1: not_finite, amount"),
    "empty": ([""], "holds no record"),
}


def test_a_file_with_anything_wrong_sends_nothing(installation: StreamInstallation, tmp_path: Path) -> None:
    bad_records(installation)
    installation.rows("ALTER TABLE dead_letters ALTER id DROP IDENTITY")
    installation.rows("UPDATE dead_letters SET id = record_offset + 1")
    for name, (content, sentence) in BAD_FILES.items():
        path = tmp_path / f"{name}.jsonl"
        text = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in content)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(JobFailed) as caught:
            redrive_repaired(redrive_installation(installation), path, RedriveOptions())
        assert str(caught.value).startswith(f"{path}"), name
        assert sentence in str(caught.value), name
        assert str(caught.value).endswith("nothing was sent."), name
    with pytest.raises(JobFailed, match=r"missing\.jsonl cannot be read \(No such file"):
        redrive_repaired(redrive_installation(installation), tmp_path / "missing.jsonl", RedriveOptions())
    with pytest.raises(JobFailed, match="Dead letter 98: there is no dead letter 98; nothing was sent"):
        redrive(installation, 1, 98, terms=RedriveOptions(check=False))
    assert sent(installation) == []
    assert [row[2] for row in stored_dead_letters(installation)] == [False] * 3


def test_labels_go_back_to_their_own_topic(installation: StreamInstallation, tmp_path: Path) -> None:
    label = {"transaction_id": "tx", "label": 1, "source": "analyst"}
    installation.send_labels([label | {"label": 7}])
    installation.consume()
    identifier = stored_dead_letters(installation)[0][0]
    repaired = lines(tmp_path / "r.jsonl", {"id": identifier, "record": label})
    for again in (False, True):
        assert (
            redrive_repaired(redrive_installation(installation), repaired, RedriveOptions(again=again))[
                "sent"
            ]
            == 1
        )
    result = installation.consume()["labels"]
    # Without a moment of its own it counts as reported when it came at first: sent twice, it is one label.
    assert (result["stored"], result["replayed"]) == (1, 1)
    with pytest.raises(JobFailed, match="line 1: out_of_range"):
        bad = lines(tmp_path / "bad.jsonl", {"id": identifier, "record": label | {"label": 2}})
        redrive_repaired(redrive_installation(installation), bad, RedriveOptions())


def test_a_letter_another_redrive_has_just_sent_is_not_sent_again(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(["x"]), headers={"schema": b"creditcard/0"})
    installation.consume()
    identifier = stored_dead_letters(installation)[0][0]
    with (
        ThreadPoolExecutor(1) as pool,
        closing(connect(installation.database.url("streaming"), "other")) as other,
        other.cursor() as cur,
    ):
        assert lock_dead_letters(cur, [identifier], again=False) == {identifier}
        second = pool.submit(redrive, installation, identifier)
        assert eventually(lambda: len(installation.rows("SELECT 1 FROM pg_locks WHERE NOT granted")) == 1)
        mark_redriven(cur, [identifier])
        other.commit()
        result = second.result(timeout=30)
    assert (result["sent"], result["already_redriven"], sent(installation)) == (0, 1, [])


def test_ended_before_it_was_noted_a_record_is_sent_twice_and_stored_once(
    installation: StreamInstallation,
) -> None:
    installation.send(creditcard_records(["x"]), headers={"schema": b"creditcard/0"})
    installation.consume()
    installation.rows("ALTER TABLE dead_letters ADD CONSTRAINT never CHECK (redriven_at IS NULL)")
    with pytest.raises(psycopg2.errors.CheckViolation):
        redrive(installation)
    installation.rows("ALTER TABLE dead_letters DROP CONSTRAINT never")
    assert redrive(installation)["sent"] == 1
    assert len(sent(installation)) == 2
    result = installation.consume()
    assert (result["stored"], result["replayed"]) == (1, 1)


def test_a_topic_or_a_broker_that_is_away_is_named_and_nothing_is_noted(
    installation: StreamInstallation,
) -> None:
    installation.send(creditcard_records(["x"]), headers={"schema": b"creditcard/0"})
    installation.consume()
    kafka = installation.kafka
    unreachable = {"kafka_bootstrap_servers": "127.0.0.1:9", "kafka_topic": kafka.topic}
    missing_topic = {
        "kafka_bootstrap_servers": kafka.kafka_bootstrap_servers,
        "kafka_topic": "absent-transactions",
    }
    installation.kafka = KafkaSettings.model_validate(unreachable)
    with pytest.raises(JobFailed, match=r"Kafka cannot be reached \(127\.0\.0\.1:9"):
        redrive(installation)
    installation.kafka = KafkaSettings.model_validate(missing_topic)
    with pytest.raises(JobFailed, match="Kafka has no topic absent-labels, absent-transactions"):
        redrive(installation)
    result = redrive(installation, terms=RedriveOptions(dry_run=True))
    assert (result["sent"], result["refused"]) == (0, {"other_topic": 1})
    assert stored_dead_letters(installation)[0][2] is False


def test_the_list_counts_by_reason_and_shows_the_newest(installation: StreamInstallation) -> None:
    installation.send([b"{", b"", b"{", b"\xff"])
    installation.consume()
    listed = show(installation.installation.database, Selection(), 2)
    assert (listed["total"], listed["by_reason"]) == (4, {"not_json": 3, "empty": 1})
    assert len(listed["dead_letters"]) == 2
    newest = listed["dead_letters"][0]
    assert newest["id"] == max(row[0] for row in stored_dead_letters(installation))
    assert (newest["complete"], newest["redriven_at"], newest["redriven_from"]) == (True, None, None)
    assert show(installation.installation.database, Selection(reason="empty"), None)["total"] == 1
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert show(installation.installation.database, Selection(since=tomorrow), None)["dead_letters"] == []


def test_the_commands(installation: StreamInstallation, tmp_path: Path) -> None:
    installation.send(creditcard_records(["x"]), headers={"schema": b"creditcard/0"})
    installation.send([b"\xff"])
    installation.consume()
    listed = installation.command("dead-letters", "--since", "1h", "--reason", "schema_mismatch")
    assert listed.returncode == 0, listed.stderr
    identifier = json.loads(listed.stdout)["dead_letters"][0]["id"]
    assert installation.command("dead-letters", "--export", str(tmp_path / "l.jsonl")).returncode == 0
    assert '"payload_base64": "/w=="' in (tmp_path / "l.jsonl").read_text()
    refused = installation.command("redrive", "--id", str(identifier), "987654")
    assert refused.returncode == 1
    assert refused.stderr.endswith(
        "failed: Dead letter 987654: there is no dead letter 987654; nothing was sent.\n"
    )
    done = installation.command("redrive", "--reason", "schema_mismatch")
    assert (done.returncode, json.loads(done.stdout)["sent"]) == (0, 1)
    assert json.loads(installation.command("dead-letters", "--open").stdout)["by_reason"] == {"not_json": 1}
    assert installation.consume()["stored"] == 1
