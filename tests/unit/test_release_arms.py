"""Champion and canary side by side: who decides, what is counted, and what a canary's faults do to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from config.parameters import read_yaml
from fraud_adapters.columnar import answer_from_ipc, answer_to_ipc
from fraud_adapters.models.loading import Scores
from fraud_adapters.postgres.release_counts import CANARY, CONTROL
from fraud_adapters.postgres.session import Session
from fraud_api.arrival import Arrival
from fraud_api.metrics import Metrics
from fraud_api.model_holder import Serving
from fraud_api.predict import _in_order
from fraud_api.problems import Problem, unavailable
from fraud_api.releases.arms import SHADOW_ROLE, THREADS, Arms, Canary
from fraud_api.releases.counts import Counts, Stage
from fraud_api.releases.shadow import Shadow
from fraud_api.scoring import Scored, arrow_answer
from fraud_core.batch import Batch
from fraud_core.canary.evidence import SCORE_BINS, Arm
from fraud_core.contract import Contract

WIRE: Final = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))
WITHOUT_CARDS: Final = Contract.from_mapping(
    {
        **read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"),
        "fields": [
            {key: value for key, value in field.items() if (key, value) != ("role", "card")}
            for field in read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml")["fields"]
        ],
    }
)
NOW: Final = datetime(2026, 5, 1, 12, 30, 15, tzinfo=UTC)
MINUTE: Final = NOW.replace(second=0)
STAGE: Final = Stage(3, 40)
ROWS: Final = 300
Values = NDArray[np.float64]


def serving(version: str, scores: Callable[[int], Values]) -> Serving:
    """A version whose model gives these scores."""

    def score(features: NDArray[np.float32]) -> Scores:
        return Scores(scores(len(features)), f"engine-{version}")

    manifest = SimpleNamespace(threshold=0.5, block_threshold=0.9)
    model = SimpleNamespace(manifest=manifest, score_few=score, score_batch=score)
    return Serving(version, cast(Any, model), cast(Any, None))


def constant(value: float) -> Callable[[int], Values]:
    return lambda rows: np.full(rows, value)


def raising(rows: int) -> Values:
    raise ArithmeticError(f"{rows} rows are too many")


def batch(rows: int = ROWS, cards: int = 100) -> Batch:
    """Transactions whose cards come more than once."""
    numbers = np.arange(rows)
    columns: dict[str, Any] = {
        "sent_amount": numbers + 0.125,
        "hour": numbers % 24.0,
        "urgent": numbers % 2.0,
        "fee": np.full(rows, np.nan),
        "channel": np.array(["web"] * rows, dtype=object),
        "payer": np.array([f"card-{number % cards}" for number in numbers], dtype=object),
        "payee": np.array(["payee"] * rows, dtype=object),
    }
    return Batch([f"id-{number}" for number in numbers], [NOW] * rows, columns)


class Fixture:
    """Arms with a champion that scores 0.1, a canary and what they have counted."""

    def __init__(self, canary: Canary | None, contract: Contract = WIRE, limit: float = 5.0) -> None:
        self.canary = canary
        self.control: Stage | None = None
        self.champion: Serving | None = serving("6", constant(0.1))
        self.counts = Counts(slow_seconds=60.0, clock=lambda: NOW)
        self.metrics = Metrics()
        shadow = Shadow(contract, lambda: None, cast(Session, None), self.metrics)
        self.arms = Arms(
            contract,
            champion=self._champion,
            canary=lambda: self.canary,
            control=lambda: self.control,
            shadow=shadow,
            counts=self.counts,
            metrics=self.metrics,
            limit_seconds=limit,
        )

    def _champion(self) -> Serving:
        if self.champion is None:
            raise unavailable("There is no model that may serve.")
        return self.champion

    def counted(self) -> dict[str, Arm]:
        found = self.counts.unstored()
        assert {(stage, minute) for stage, _, minute in found} <= {(STAGE, MINUTE)}
        return {arm: sums for (_, arm, _), sums in found.items()}

    def failures(self) -> float | None:
        return self.metrics.registry.get_sample_value("fraud_api_canary_failures_total")

    def few(self, rows: Batch) -> list[Scored]:
        """Each part as the single requests that came together get it."""

        async def every() -> list[Scored]:
            parts = self.arms.split(rows)
            return await asyncio.gather(
                *(self.arms.score_few(part, [arrival()] * len(part.batch)) for part in parts)
            )

        return asyncio.run(every())


CERTAIN: Final = constant(0.7)


def canary(scores: Callable[[int], Values] = CERTAIN, salt: str = "salt", percent: int = 40) -> Canary:
    stage = Stage(STAGE.deployment_id, percent)
    return Canary(stage.deployment_id, serving("7", scores), salt, percent / 100, stage)


def arrival() -> Arrival:
    return Arrival(NOW, 0.0, None)


Make = Callable[..., Fixture]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Fixture] = []

    def arms(*arguments: Any, **options: Any) -> Fixture:
        made.append(Fixture(*arguments, **options))
        return made[-1]

    yield arms
    for one in made:
        one.arms.close()


def test_without_a_release_the_champion_decides_and_nothing_is_counted(make: Make) -> None:
    without = make(None)
    [part] = without.arms.score_many(batch(), arrival())
    assert (part.scored.predictions.model_version, part.scored.predictions.role) == ("6", "champion")
    assert len(part.rows) == ROWS
    assert without.counted() == {}


def test_each_arm_scores_its_rows_and_is_counted(make: Make) -> None:
    both = make(canary())
    control, other = both.arms.score_many(batch(), arrival())
    assert sorted([*control.rows, *other.rows]) == list(range(ROWS))
    assert (control.scored.predictions.model_version, control.scored.predictions.role) == ("6", "champion")
    assert (other.scored.predictions.model_version, other.scored.predictions.role) == ("7", "canary")
    counted = both.counted()
    assert 0.3 * ROWS < len(other.rows) < 0.5 * ROWS
    assert counted[CANARY].flagged == counted[CANARY].rows == counted[CANARY].scored == len(other.rows)
    assert (counted[CONTROL].flagged, counted[CONTROL].rows) == (0, len(control.rows))
    assert (counted[CANARY].calls, counted[CANARY].errors, counted[CANARY].slow) == (1, 0, 0)
    assert counted[CANARY].scores[int(0.7 * SCORE_BINS)] == len(other.rows)
    assert both.failures() == 0


def test_answers_are_in_the_order_of_the_request(make: Make) -> None:
    both, rows = make(canary()), batch()
    parts = both.arms.score_many(rows, arrival())
    answers = _in_order(parts, [None] * len(parts))
    assert [one["transaction_id"] for one in answers] == rows.ids
    of_canary = {one["transaction_id"] for one in answers if one["model_version"] == "7"}
    assert of_canary == {rows.ids[row] for row in parts[1].rows}
    back = answer_from_ipc(answer_to_ipc(arrow_answer(rows.ids, parts)), len(WIRE.features), ROWS)
    assert back.ids == rows.ids
    assert [list(part.rows) for part in back.parts] == [list(part.rows) for part in parts]


def test_a_card_stays_in_its_arm(make: Make) -> None:
    """Whatever else is in the batch, by single requests or lists, and also when the share grows."""
    one, rows = make(canary()), batch()

    def cards(found: Fixture, some: Batch) -> set[str]:
        return {
            card
            for part in found.arms.split(some)
            if part.canary is not None
            for card in part.batch.columns["payer"]
        }

    served = cards(one, rows)
    assert 0 < len(served) < 100
    for row in range(ROWS):
        single = rows.take([row])
        assert cards(one, single) == served & set(single.columns["payer"])
    assert served < cards(make(canary(percent=80)), rows)
    assert served != cards(make(canary(salt="of another release")), rows)


def test_a_contract_without_cards_is_split_by_transaction(make: Make) -> None:
    rows = batch(cards=1)
    assert len(make(canary()).arms.split(rows)) == 1
    control, other = make(canary(), WITHOUT_CARDS).arms.split(rows)
    assert 0.3 * ROWS < len(other.rows) < 0.5 * ROWS
    assert len(control.rows) + len(other.rows) == ROWS


def test_a_transaction_without_its_card_is_split_by_its_id(make: Make) -> None:
    rows = batch()
    rows.columns["payer"] = np.array([None] * ROWS, dtype=object)
    control, other = make(canary()).arms.split(rows)
    assert len(control.rows) > 0 < len(other.rows)


@pytest.mark.parametrize("scores", [raising, constant(np.nan)], ids=["raises", "NaN"])
def test_the_champion_decides_where_a_canary_fails(make: Make, scores: Callable[[int], Values]) -> None:
    failing = make(canary(scores))
    control, other = failing.arms.score_many(batch(), arrival())
    decided = other.scored.predictions
    assert (decided.model_version, decided.role) == ("6", "champion")
    assert decided.scores.tolist() == [0.1] * len(other.rows)
    assert len(failing.few(batch())) == 2
    counted = failing.counted()
    assert (counted[CANARY].calls, counted[CANARY].errors) == (2, 2)
    assert (counted[CANARY].rows, counted[CANARY].scored) == (2 * len(other.rows), 0)
    assert (counted[CONTROL].errors, counted[CONTROL].rows) == (0, 2 * len(control.rows))
    assert failing.failures() == 2


def test_a_canary_that_hangs_holds_up_nobody(make: Make) -> None:
    """Once all its threads hang, its calls are still answered within the limit."""
    release = Event()

    def hanging(rows: int) -> Values:
        release.wait(60)
        return np.full(rows, 0.7)

    late = make(canary(hanging), limit=0.05)
    try:
        for _ in range(THREADS + 1):
            _, other = late.arms.score_many(batch(), arrival())
            assert other.scored.predictions.model_version == "6"
        started = asyncio.run(timed(late))
        assert started < timedelta(seconds=10)
    finally:
        release.set()
    counted = late.counted()
    assert counted[CANARY].errors == counted[CANARY].calls == THREADS + 2
    assert late.failures() == THREADS + 2


async def timed(late: Fixture) -> timedelta:
    """How long single requests of both arms take; the champion's are answered while the canary's wait."""
    loop, control, other = asyncio.get_running_loop(), *late.arms.split(batch())
    before = loop.time()
    waiting = asyncio.create_task(late.arms.score_few(other, [arrival()] * len(other.batch)))
    await asyncio.sleep(0)
    at_once = await late.arms.score_few(control, [arrival()] * len(control.batch))
    assert not waiting.done()
    assert at_once.predictions.model_version == "6"
    assert (await waiting).predictions.model_version == "6"
    return timedelta(seconds=loop.time() - before)


def test_without_a_champion_a_failed_canary_is_no_answer(make: Make) -> None:
    failing = make(canary(raising))
    failing.champion = None
    with pytest.raises(Problem, match="no model"):
        failing.arms.score_many(batch(), arrival())


def test_single_requests_are_decided_like_a_list(make: Make) -> None:
    both, rows = make(canary()), batch()
    listed = [part.scored.predictions for part in both.arms.score_many(rows, arrival())]
    single = [scored.predictions for scored in both.few(rows)]
    assert [one.model_version for one in single] == [one.model_version for one in listed]
    assert [one.role for one in single] == ["champion", "canary"]
    counted = both.counted()
    assert counted[CANARY].calls == counted[CONTROL].calls == 2


def test_an_empty_batch_is_nobodys(make: Make) -> None:
    both = make(canary())
    [part] = both.arms.score_many(batch(0), arrival())
    assert len(part.scored.predictions) == 0
    assert both.counted() == {}


def test_where_a_replica_serves_a_release_every_row_is_its_own(make: Make) -> None:
    """As a shadow its answers say so, and are not stored; whatever fails, too."""
    deciding = make(replace(canary(), share=1.0))
    [part] = deciding.arms.score_many(batch(), arrival())
    assert (part.scored.predictions.model_version, part.scored.predictions.role) == ("7", "canary")
    for scores, version in ((CERTAIN, "7"), (raising, "6")):
        shadow = make(replace(canary(scores), share=1.0, decides=False))
        [part] = shadow.arms.score_many(batch(), arrival())
        assert (part.scored.predictions.model_version, part.scored.predictions.role) == (version, SHADOW_ROLE)
        assert list(shadow.counted()) == [CANARY]


def test_where_the_canary_is_on_another_replica_the_champion_is_its_control(make: Make) -> None:
    control = make(None)
    control.control = STAGE
    control.arms.score_many(batch(), arrival())
    assert control.counted()[CONTROL].rows == ROWS
