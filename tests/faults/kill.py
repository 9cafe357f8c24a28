"""The kill test: consumers die at every point of their work, again and again, and nothing is lost or doubled.

    python -m tests.faults.kill --kills 300 --transactions 50000 [--seed N] [--order right|offset-first|…]

Starts its own servers. Prints its progress, a summary and what the oracle found; exit code 1 if it found
anything. The seed fixes what is sent and who is to die where; when the processes run is the system's affair.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config.job_results import EXIT_DONE, EXIT_NOTHING_TO_DO
from fraud_adapters.postgres import connect
from tests.faults.crew import BOUNDED, KINDS, Consumer, Crew, Fate, crew
from tests.faults.feed import Feed
from tests.faults.oracle import Finding, judge, unread
from tests.faults.points import ALERTS_SENT, BEFORE_KAFKA_COMMIT, ORDERS, POINTS, RIGHT
from tests.support.killable_servers import World, running_world
from tests.support.streaming_installation import StreamingSite

ANYWHERE: Final = "anywhere, from outside"
CONSUMERS: Final = 2
BATCHES: Final = (10, 25, 50, 100)
AT_THE_END: Final = (BEFORE_KAFKA_COMMIT, ALERTS_SENT)  # points a bounded run passes once, when it is done
PASSAGES: Final = 4  # a consumer dies at the latest when it comes by its point for this time
RESERVE: Final = 500  # records that wait at least: nobody who is to die runs out of work
SLICE: Final = 500  # records sent at once
MALFORMED: Final = 0.01
REPEATED: Final = 0.01
MISSED_AFTER_MS: Final = 1500  # more deaths an hour than with the program's six seconds
LIFE_SECONDS: Final = 60  # whoever has not met its death by then is killed where it is


@dataclass(frozen=True, slots=True)
class Card:
    """One death to be died."""

    kind: str
    point: str
    passage: int
    batch: int
    delay: float  # seconds after its start, for one that is killed from outside


def deal(kills: int, kinds: Sequence[str], source: random.Random) -> deque[Card]:
    """So many deaths: every point with every kind of consumer equally often, in random order."""
    pairs = [(kind, point) for kind in kinds for point in (*POINTS, ANYWHERE)]
    dealt: list[tuple[str, str]] = []
    while len(dealt) < kills:
        dealt += source.sample(pairs, len(pairs))
    return deque(
        Card(
            kind,
            point,
            passage=1 if kind == BOUNDED and point in AT_THE_END else source.randint(1, PASSAGES),
            batch=source.choice(BATCHES),
            delay=source.uniform(0.05, 1.5),
        )
        for kind, point in dealt[:kills]
    )


@dataclass
class Life:
    """A consumer with its card."""

    card: Card
    consumer: Consumer
    killed_at: float

    def due(self) -> bool:
        return time.monotonic() >= self.killed_at and not self.consumer.ended.is_set()


@dataclass
class Result:
    """What became of a campaign."""

    seed: int
    sent: int = 0
    seconds: float = 0.0
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    survived: int = 0  # consumers that ended before they met their death
    findings: list[Finding] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return self.kills.total()

    def summary(self) -> str:
        lines = [f"{self.killed} kills over {self.sent} records in {self.seconds:.0f} s, seed {self.seed}"]
        lines += [f"  {count:4} × {kind} {point}" for (kind, point), count in sorted(self.kills.items())]
        lines.append(f"  {self.survived:4} consumers ended before their death")
        lines += [f"FOUND {finding}" for finding in self.findings] or ["nothing lost, nothing doubled"]
        return "\n".join(lines)


class Campaign:
    """Kills consumers of one site until all cards are played, then lets the rest be consumed in peace."""

    def __init__(
        self,
        site: StreamingSite,
        workers: Crew,
        *,
        seed: int,
        kills: int,
        transactions: int,
        order: str = RIGHT,
        kinds: Sequence[str] = KINDS,
        say: Callable[[str], None] = print,
    ) -> None:
        self._site = site
        self._crew = workers
        self._seed = seed
        self._kills = kills
        self._transactions = transactions
        self._order = order
        self._cards = deal(kills, kinds, random.Random(seed))
        self._say = say
        self._lives: list[Life] = []
        self._result = Result(seed)

    def run(self) -> Result:
        started = time.monotonic()
        with Feed(self._site, self._seed) as feed:
            self._kill_all(feed)
            while len(feed.good) < self._transactions:
                self._send(feed)
            drain(self._site, self._crew)
            self._result.findings = judge(self._site, feed)
            self._result.sent = feed.sent
        self._result.seconds = time.monotonic() - started
        return self._result

    def _kill_all(self, feed: Feed) -> None:
        with closing(connect(self._site.database.url("owner"), "campaign")) as conn:
            conn.autocommit = True
            while self._result.killed < self._kills:
                with conn.cursor() as cur:
                    cur.execute("SELECT coalesce(sum(next_offset), 0) FROM stream_offsets")
                    (consumed,) = cur.fetchone()
                wanted = self._transactions * self._result.killed / self._kills
                while feed.sent - consumed < RESERVE or len(feed.good) < wanted:
                    self._send(feed)
                self._tend()
                time.sleep(0.005)
        for life in self._lives:
            life.consumer.kill()

    def _send(self, feed: Feed) -> None:
        feed.send(SLICE, malformed=MALFORMED, repeated=REPEATED)

    def _tend(self) -> None:
        """Bury the dead, kill who is due, start who is missing."""
        for life in list(self._lives):
            if life.consumer.ended.is_set():
                self._lives.remove(life)
                self._bury(life)
            elif life.due():
                life.consumer.kill()
        while len(self._lives) < CONSUMERS and self._cards:
            self._lives.append(self._start(self._cards.popleft()))

    def _start(self, card: Card) -> Life:
        fate = None if card.point == ANYWHERE else Fate(card.point, card.passage)
        options: list[str] = []
        if card.kind == BOUNDED:
            options += ["--max-seconds", "30"]
            if card.point in AT_THE_END:
                options += ["--max-records", str(card.batch * 2)]
        consumer = self._crew.start(
            card.kind,
            self._site,
            *options,
            batch=card.batch,
            fate=fate,
            commit_order=self._order,
            missed_after_ms=MISSED_AFTER_MS,
        )
        patience = card.delay if fate is None else LIFE_SECONDS
        return Life(card, consumer, time.monotonic() + patience)

    def _bury(self, life: Life) -> None:
        consumer, card = life.consumer, life.card
        if consumer.killed:
            self._result.kills[card.kind, card.point] += 1
            if self._result.killed % 20 == 0:
                self._say(f"{self._result.killed} of {self._kills} killed")
            return
        if consumer.code not in {EXIT_DONE, EXIT_NOTHING_TO_DO}:
            raise AssertionError(f"a {card.kind} failed by itself\n{consumer.last_words()}")
        self._result.survived += 1
        self._cards.append(card)


def drain(site: StreamingSite, workers: Crew, *options: str, attempts: int = 20) -> None:
    """Consume in peace what is left."""
    for _ in range(attempts):
        consumer = workers.bounded(site, "--max-seconds", "300", *options, batch=1000)
        code = consumer.wait(400)
        # The lock of one that was killed is free when the server has noticed its end.
        assert code in {EXIT_DONE, EXIT_NOTHING_TO_DO}, consumer.last_words()
        if code == EXIT_DONE and not unread(site):
            return
    raise AssertionError(f"the topic is not drained: {unread(site)}")


def campaign(world: World, *, seed: int, directory: Path, **more: object) -> Result:
    """One campaign on a site of its own."""
    with world.site() as site, crew(directory) as workers:
        return Campaign(site, workers, seed=seed, **more).run()  # type: ignore[arg-type]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--transactions", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--order", choices=ORDERS, default=RIGHT, help="a wrong one must be found")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}, commit order: {options.order}", flush=True)
    with running_world() as world, tempfile.TemporaryDirectory(prefix="fraud-kill-") as directory:
        result = campaign(
            world,
            seed=seed,
            directory=Path(directory),
            kills=options.kills,
            transactions=options.transactions,
            order=options.order,
            say=lambda text: print(text, flush=True),
        )
    print(result.summary())
    return 1 if result.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
