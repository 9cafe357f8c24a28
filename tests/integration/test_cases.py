"""Cases against real Postgres: what is opened, that nobody gets another's, and what a label leaves behind."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.audit import Opening
from config.settings import PlatformSettings, parameters
from fraud_adapters.postgres import case_queue, cases, connect, decision_hours
from fraud_adapters.postgres.decision_hours import DecisionCounts, Span
from fraud_adapters.postgres.session import Session
from fraud_core.cases import Action, ActionRefused, CaseRules, Person
from fraud_core.people import PersonRole
from tests.support.audit_app import add_decisions, report
from tests.support.stored_rows import Database, run, waits_for_a_lock

RULES = CaseRules()
OPENING = parameters(PlatformSettings()).audit.opening.model_copy(update={"sampling_share": 0.0})
ANA, LEA = Person("ana", PersonRole.ANALYST), Person("lea", PersonRole.LEAD)


def as_audit(database: Database, work: Any) -> Any:
    with closing(connect(database.url("audit"), "test")) as connection, connection:
        return work(connection.cursor())


def opened(database: Database, rules: Opening = OPENING) -> int:
    return int(as_audit(database, lambda cursor: case_queue.open_decided(cursor, rules)))


def all_cases(database: Database) -> dict[str, str]:
    return dict(run(database.url("owner"), "SELECT transaction_id, origin FROM cases"))


def settle(database: Database) -> None:
    """As if the settling time had passed."""
    run(database.url("owner"), "UPDATE case_scan SET seen_at = seen_at - interval '1 hour'")


def flagged(database: Database) -> set[str]:
    statement = "SELECT transaction_id FROM predictions WHERE deciding AND decision <> 'approve'"
    return {name for (name,) in run(database.url("owner"), statement)}


# --- Opening --------------------------------------------------------------------------------------
def test_each_flagged_decision_becomes_one_case(database: Database) -> None:
    add_decisions(database)
    assert opened(database) == len(flagged(database)) > 3
    assert all_cases(database) == dict.fromkeys(flagged(database), "flagged")
    assert opened(database) == 0
    [(wrong,)] = run(
        database.url("owner"),
        "SELECT count(*) FROM cases c JOIN predictions p USING (transaction_id)"
        " JOIN transactions x USING (transaction_id) WHERE abs(c.priority - p.score * x.amount) > 1e-9"
        " OR c.due_at <> p.prediction_time"
        " + CASE p.decision WHEN 'block' THEN interval '4 hours' ELSE interval '24 hours' END",
    )
    assert wrong == 0
    add_decisions(database, seed=6, prefix="later")
    assert opened(database) == len(flagged(database)) - len(
        [name for name in flagged(database) if name.startswith("case-")]
    )


def test_what_is_known_or_old_is_no_case(database: Database) -> None:
    add_decisions(database)
    known = sorted(flagged(database))[0]
    report(database, {known: 1})
    old = sorted(flagged(database))[1]
    run(
        database.url("owner"),
        "UPDATE predictions SET prediction_time = now() - interval '31 days' WHERE transaction_id = %s",
        old,
    )
    opened(database)
    assert all_cases(database).keys() == flagged(database) - {known, old}


def test_a_batch_bounds_a_search_and_nothing_is_left_behind(database: Database) -> None:
    add_decisions(database)
    rules = OPENING.model_copy(update={"batch": 2})
    counts = []
    while count := opened(database, rules):
        settle(database)
        counts.append(count)
    assert max(counts) == 2
    assert all_cases(database).keys() == flagged(database)


def test_a_prediction_that_commits_late_is_found(database: Database) -> None:
    """Its number is lower than those of decisions that were searched before it appeared."""
    url = database.url("owner")
    # The search of a database that was made a while ago would count as settled at once.
    run(url, "UPDATE case_scan SET seen_at = clock_timestamp()")
    add_decisions(database, 4, prefix="early")
    columns = (
        "(transaction_id, fraud_score, score, is_fraud_predicted, model_version, decision, deciding,"
        " feature_vector, engine)"
    )
    values = "'late-x', 0.9, 0.9, true, '7', 'block', true, '{}', 'e'"
    insert = f"INSERT INTO predictions {columns} VALUES ({values})"
    run(url, "INSERT INTO transactions (transaction_id, event_time, contract, source)"
        " VALUES ('late-x', now(), 'creditcard/1', 'test')")  # fmt: skip
    with closing(connect(url, "test")) as late:
        late.cursor().execute(insert)
        add_decisions(database, seed=6)
        opened(database)
        settle(database)
        opened(database)
        late.commit()
    assert opened(database) == 1
    assert "late-x" in all_cases(database)


def test_a_share_of_what_was_approved_is_drawn_once(database: Database) -> None:
    add_decisions(database, 400)
    rules = OPENING.model_copy(update={"sampling_share": 0.2, "settle": timedelta(microseconds=1)})
    for _ in range(4):
        opened(database, rules)
    origins = Counter(all_cases(database).values())
    approved = 400 - len(flagged(database))
    # Within five standard deviations of the binomial distribution.
    assert abs(origins["sampled"] - 0.2 * approved) < 5 * (approved * 0.16) ** 0.5
    shares = run(database.url("owner"), "SELECT DISTINCT sampling_share FROM cases WHERE origin = 'sampled'")
    assert shares == [(0.2,)]
    before = all_cases(database)
    run(database.url("owner"), "UPDATE case_scan SET done_to = 0, seen_at = '-infinity'")
    for _ in range(4):
        opened(database, rules)
    assert all_cases(database) == before


# --- Working --------------------------------------------------------------------------------------
def test_ten_analysts_at_once_never_get_the_same_case_and_lose_no_label(database: Database) -> None:
    add_decisions(database, 400, hours=20)
    total = opened(database)
    assert total > 40

    def work(number: int) -> list[int]:
        person = Person(f"analyst{number}", PersonRole.ANALYST)
        session = Session(database.url("audit"), "analyst")
        decided = []
        try:
            while (case_id := session.run(lambda cursor: cases.take_next(cursor, person, RULES))) is not None:
                session.run(lambda cursor, case_id=case_id: cases.act(  # type: ignore[misc]
                    cursor, case_id, Action.LABEL, person, RULES, label=case_id % 2))  # fmt: skip
                decided.append(case_id)
        finally:
            session.close()
        return decided

    with ThreadPoolExecutor(10) as executor:
        decided = list(executor.map(work, range(10)))
    everything = [case_id for one in decided for case_id in one]
    assert len(everything) == len(set(everything)) == total
    assert sum(bool(one) for one in decided) > 1
    url = database.url("owner")
    wrong = run(
        url,
        "SELECT c.case_id FROM cases c LEFT JOIN labels l ON l.label_id = c.label_id"
        " JOIN transactions x ON x.transaction_id = c.transaction_id"
        " WHERE c.state <> 'closed' OR c.decision IS DISTINCT FROM mod(c.case_id, 2) OR l.label <> c.decision"
        " OR l.reported_by <> c.decided_by OR x.class IS DISTINCT FROM c.decision OR l.source <> 'analyst'",
    )
    assert wrong == []
    assert run(url, "SELECT count(*) FROM labels") == [(total,)]
    assert run(url, "SELECT count(*) FROM audit_log WHERE action = 'label.reported'") == [(total,)]
    assert run(url, "SELECT count(*) FROM case_events WHERE kind = 'labelled'") == [(total,)]
    assert run(url, "SELECT * FROM audit_verify()") == []


def test_nobody_waits_for_a_case_that_somebody_is_deciding(database: Database) -> None:
    add_decisions(database)
    opened(database)
    with closing(connect(database.url("audit"), "slow")) as slow:
        first = cases.take_next(slow.cursor(), ANA, RULES)
        other = as_audit(database, lambda cursor: cases.take_next(cursor, LEA, RULES))
        assert other not in {None, first}
        assert not waits_for_a_lock(database.url("admin"))


def test_a_case_comes_back_to_its_person_and_a_lock_left_behind_to_all(database: Database) -> None:
    add_decisions(database)
    opened(database)
    first = as_audit(database, lambda cursor: cases.take_next(cursor, ANA, RULES))
    assert as_audit(database, lambda cursor: cases.take_next(cursor, ANA, RULES)) == first
    run(database.url("owner"), "UPDATE cases SET locked_until = now() WHERE case_id = %s", first)
    assert as_audit(database, lambda cursor: cases.take_next(cursor, LEA, RULES)) == first
    with pytest.raises(ActionRefused, match="lea is working"):
        act(database, first, Action.LABEL, ANA, label=1)


def act(database: Database, case_id: int, action: Action, person: Person, **arguments: Any) -> Any:
    return as_audit(database, lambda cursor: cases.act(cursor, case_id, action, person, RULES, **arguments))


def test_what_was_skipped_goes_to_others(database: Database) -> None:
    add_decisions(database)
    opened(database)
    first = as_audit(database, lambda cursor: cases.take_next(cursor, ANA, RULES))
    act(database, first, Action.SKIP, ANA)
    assert as_audit(database, lambda cursor: cases.take_next(cursor, ANA, RULES)) != first
    assert as_audit(database, lambda cursor: cases.take_next(cursor, LEA, RULES)) == first


def test_escalated_cases_go_to_leads_alone_and_first(database: Database) -> None:
    add_decisions(database)
    opened(database)
    [(last,)] = run(database.url("owner"), "SELECT case_id FROM cases ORDER BY priority LIMIT 1")
    act(database, last, Action.ESCALATE, ANA, note="strange")
    seen = set()
    while (case_id := as_audit(database, lambda cursor: cases.take_next(cursor, ANA, RULES))) is not None:
        act(database, case_id, Action.LABEL, ANA, label=0)
        seen.add(case_id)
    assert last not in seen
    assert as_audit(database, lambda cursor: cases.take_next(cursor, LEA, RULES)) == last


def test_a_decision_is_undone_and_the_next_one_counts(database: Database) -> None:
    add_decisions(database)
    opened(database)
    case_id = as_audit(database, lambda cursor: cases.take_next(cursor, ANA, RULES))
    act(database, case_id, Action.LABEL, ANA, label=1)
    act(database, case_id, Action.LABEL, ANA, label=1)  # a request that is repeated
    with pytest.raises(ActionRefused, match="ana has closed"):
        act(database, case_id, Action.LABEL, LEA, label=0)
    act(database, case_id, Action.UNDO, ANA)
    assert as_audit(database, lambda cursor: cases.take_next(cursor, ANA, RULES)) == case_id
    act(database, case_id, Action.LABEL, ANA, label=0)
    url = database.url("owner")
    reports = run(url, "SELECT label FROM labels ORDER BY reported_at")
    assert reports == [(1,), (0,)]
    [(known,)] = run(
        url, "SELECT class FROM cases JOIN transactions USING (transaction_id) WHERE case_id = %s", case_id
    )
    assert known == 0
    kinds = run(url, "SELECT kind FROM case_events WHERE case_id = %s ORDER BY event_id", case_id)
    assert [kind for (kind,) in kinds] == ["opened", "taken", "labelled", "undone", "labelled"]


def test_a_label_is_stored_with_everything_or_not_at_all(database: Database) -> None:
    add_decisions(database)
    opened(database)
    case_id = as_audit(database, lambda cursor: cases.take_next(cursor, ANA, RULES))
    with (
        pytest.raises(RuntimeError),
        closing(connect(database.url("audit"), "test")) as connection,
        connection,
    ):
        cases.act(connection.cursor(), case_id, Action.LABEL, ANA, RULES, label=1)
        raise RuntimeError("the process ends here")
    url = database.url("owner")
    assert run(url, "SELECT state FROM cases WHERE case_id = %s", case_id) == [("assigned",)]
    assert run(url, "SELECT count(*) FROM labels") == [(0,)]
    assert run(url, "SELECT count(*) FROM audit_log WHERE action = 'label.reported'") == [(0,)]


def test_a_person_opens_a_case_about_any_transaction_once(database: Database) -> None:
    names = add_decisions(database)
    approved = sorted(set(names) - flagged(database))[0]
    first = as_audit(database, lambda cursor: cases.open_for_person(cursor, approved, ANA))
    assert as_audit(database, lambda cursor: cases.open_for_person(cursor, approved, LEA)) == first
    assert all_cases(database) == {approved: "opened"}
    assert as_audit(database, lambda cursor: cases.open_for_person(cursor, "nothing", ANA)) is None


# --- Figures --------------------------------------------------------------------------------------
def test_hours_hold_what_a_count_of_everything_gives(database: Database) -> None:
    names = add_decisions(database, 300, hours=30)
    report(database, {name: number % 2 for number, name in enumerate(names[::3])})
    as_audit(database, lambda cursor: decision_hours.summarise(cursor, 1000, timedelta()))
    assert totals(database) == counted(database)
    assert totals(database).labelled >= 100
    # A label about an old decision is found by itself, without computing everything anew.
    report(database, {names[1]: 1})
    as_audit(database, lambda cursor: decision_hours.summarise(cursor, 1, timedelta()))
    assert totals(database) == counted(database)


def totals(database: Database) -> DecisionCounts:
    now = datetime.now(UTC)
    span = Span(now - timedelta(days=9), now + timedelta(hours=1))
    total = as_audit(database, lambda cursor: decision_hours.totals(cursor, span))
    assert isinstance(total, DecisionCounts)
    return total


def counted(database: Database) -> DecisionCounts:
    [row] = run(
        database.url("owner"),
        "SELECT count(*), count(*) FILTER (WHERE is_fraud_predicted),"
        " count(*) FILTER (WHERE decision = 'block'), sum(amount)::float8,"
        " count(*) FILTER (WHERE is_fraud_predicted AND class = 1),"
        " count(*) FILTER (WHERE is_fraud_predicted AND class = 0),"
        " count(*) FILTER (WHERE NOT is_fraud_predicted AND class = 0),"
        " count(*) FILTER (WHERE NOT is_fraud_predicted AND class = 1),"
        " count(*) FILTER (WHERE class_implied),"
        " coalesce(sum(amount) FILTER (WHERE is_fraud_predicted AND class = 1), 0)::float8,"
        " coalesce(sum(amount) FILTER (WHERE is_fraud_predicted AND class = 0), 0)::float8,"
        " coalesce(sum(amount) FILTER (WHERE NOT is_fraud_predicted AND class = 1), 0)::float8"
        " FROM predictions JOIN transactions USING (transaction_id) WHERE deciding",
    )
    return DecisionCounts(*row)
