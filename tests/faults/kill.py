"""The kill test: consumers are killed at every point of their work, and nothing is lost or doubled.

    python -m tests.faults.kill --kills 300 --transactions 50000 [--seed N] [--order right|offset-first|…]

Starts its own servers. Prints its progress, a summary and the oracle's findings; the exit code is 1 if there
are any. The seed determines what is sent and which consumer is killed where, but not the system's scheduling.
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

from config.job_results.common import EXIT_DONE, EXIT_NOTHING_TO_DO
from fraud_adapters.postgres import connect
from tests.faults.consumers import BOUNDED, KINDS, Consumer, ConsumerPool, SignalPlan, pool
from tests.faults.feed import Feed
from tests.faults.oracle import Finding, judge, unread
from tests.faults.points import ALERTS_SENT, BEFORE_KAFKA_COMMIT, ORDERS, POINTS, RIGHT
from tests.support.killable_servers import KillableServers, running_servers
from tests.support.streaming_installation import StreamInstallation

ANYWHERE: Final = "anywhere, from outside"
CONSUMERS: Final = 2
BATCHES: Final = (10, 25, 50, 100)
AT_THE_END: Final = (
    BEFORE_KAFKA_COMMIT,
    ALERTS_SENT,
)  # points that a bounded run passes only once, at its end
PASSAGES: Final = 4  # a consumer is killed at the latest on this visit of its point
RESERVE: Final = 500  # minimum backlog, so that no consumer runs out of work before its kill
SLICE: Final = 500  # records sent in one call
MALFORMED: Final = 0.01
REPEATED: Final = 0.01
MISSED_AFTER_MS: Final = 1500  # shorter than the program's six seconds, for more kills an hour
LIFE_SECONDS: Final = 60  # a consumer that has not reached its point by then is killed anyway


@dataclass(frozen=True, slots=True)
class PlannedKill:
    """One planned kill."""

    kind: str
    point: str
    passage: int
    batch: int
    delay: float  # seconds after the start, for a kill from outside


def plan_kills(kills: int, kinds: Sequence[str], source: random.Random) -> deque[PlannedKill]:
    """Plan this many kills: every point with every kind of consumer equally often, in random order."""
    pairs = [(kind, point) for kind in kinds for point in (*POINTS, ANYWHERE)]
    planned: list[tuple[str, str]] = []
    while len(planned) < kills:
        planned += source.sample(pairs, len(pairs))
    return deque(
        PlannedKill(
            kind,
            point,
            passage=1 if kind == BOUNDED and point in AT_THE_END else source.randint(1, PASSAGES),
            batch=source.choice(BATCHES),
            delay=source.uniform(0.05, 1.5),
        )
        for kind, point in planned[:kills]
    )


@dataclass
class LiveConsumer:
    """A consumer and its planned kill."""

    planned_kill: PlannedKill
    consumer: Consumer
    killed_at: float

    def due(self) -> bool:
        return time.monotonic() >= self.killed_at and not self.consumer.ended


@dataclass
class Result:
    """The result of a campaign."""

    seed: int
    sent: int = 0
    seconds: float = 0.0
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    survived: int = 0  # consumers that ended before their kill
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
    """Kills consumers of one installation as planned, then consumes the rest without kills."""

    def __init__(
        self,
        installation: StreamInstallation,
        workers: ConsumerPool,
        *,
        seed: int,
        kills: int,
        transactions: int,
        order: str = RIGHT,
        kinds: Sequence[str] = KINDS,
        say: Callable[[str], None] = print,
    ) -> None:
        self._installation = installation
        self._workers = workers
        self._seed = seed
        self._kills = kills
        self._transactions = transactions
        self._order = order
        self._cards = plan_kills(kills, kinds, random.Random(seed))
        self._say = say
        self._lives: list[LiveConsumer] = []
        self._result = Result(seed)

    def run(self) -> Result:
        started = time.monotonic()
        with Feed(self._installation, self._seed) as feed:
            self._kill_all(feed)
            while len(feed.good) < self._transactions:
                self._send(feed)
            drain(self._installation, self._workers)
            self._result.findings = judge(self._installation, feed)
            self._result.sent = feed.sent
        self._result.seconds = time.monotonic() - started
        return self._result

    def _kill_all(self, feed: Feed) -> None:
        with closing(connect(self._installation.database.url("owner"), "campaign")) as conn:
            conn.autocommit = True
            while self._result.killed < self._kills:
                with conn.cursor() as cur:
                    cur.execute("SELECT coalesce(sum(next_offset), 0) FROM stream_offsets")
                    (consumed,) = cur.fetchone()
                target = self._transactions * self._result.killed / self._kills
                while feed.sent - consumed < RESERVE or len(feed.good) < target:
                    self._send(feed)
                self._tend()
                time.sleep(0.005)
        for live_consumer in self._lives:
            live_consumer.consumer.kill()

    def _send(self, feed: Feed) -> None:
        feed.send(SLICE, malformed=MALFORMED, repeated=REPEATED)

    def _tend(self) -> None:
        """Collect ended consumers, kill those that are due, and start missing ones."""
        for live_consumer in list(self._lives):
            if live_consumer.consumer.ended:
                self._lives.remove(live_consumer)
                self._reap(live_consumer)
            elif live_consumer.due():
                live_consumer.consumer.kill()
        while len(self._lives) < CONSUMERS and self._cards:
            self._lives.append(self._start(self._cards.popleft()))

    def _start(self, planned_kill: PlannedKill) -> LiveConsumer:
        signal_plan = (
            None if planned_kill.point == ANYWHERE else SignalPlan(planned_kill.point, planned_kill.passage)
        )
        options: list[str] = []
        if planned_kill.kind == BOUNDED:
            options += ["--max-seconds", "30"]
            if planned_kill.point in AT_THE_END:
                options += ["--max-records", str(planned_kill.batch * 2)]
        consumer = self._workers.start(
            planned_kill.kind,
            self._installation,
            *options,
            batch=planned_kill.batch,
            signal_plan=signal_plan,
            commit_order=self._order,
            missed_after_ms=MISSED_AFTER_MS,
        )
        patience = planned_kill.delay if signal_plan is None else LIFE_SECONDS
        return LiveConsumer(planned_kill, consumer, time.monotonic() + patience)

    def _reap(self, live_consumer: LiveConsumer) -> None:
        consumer, planned_kill = live_consumer.consumer, live_consumer.planned_kill
        if consumer.killed:
            self._result.kills[planned_kill.kind, planned_kill.point] += 1
            if self._result.killed % 20 == 0:
                self._say(f"{self._result.killed} of {self._kills} killed")
            return
        if consumer.code not in {EXIT_DONE, EXIT_NOTHING_TO_DO}:
            raise AssertionError(f"a {planned_kill.kind} failed by itself\n{consumer.end_of_log()}")
        self._result.survived += 1
        self._cards.append(planned_kill)


def drain(installation: StreamInstallation, workers: ConsumerPool, *options: str, attempts: int = 20) -> None:
    """Consume the remaining records without kills."""
    for _ in range(attempts):
        consumer = workers.bounded(installation, "--max-seconds", "300", *options, batch=1000)
        code = consumer.wait(400)
        # The lock of a killed consumer is free only after the server has noticed its end.
        assert code in {EXIT_DONE, EXIT_NOTHING_TO_DO}, consumer.end_of_log()
        if code == EXIT_DONE and not unread(installation):
            return
    raise AssertionError(f"the topic is not drained: {unread(installation)}")


def campaign(servers: KillableServers, *, seed: int, directory: Path, **more: object) -> Result:
    """Run one campaign on a separate installation."""
    with servers.installation() as installation, pool(directory) as workers:
        return Campaign(installation, workers, seed=seed, **more).run()  # type: ignore[arg-type]


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
    with running_servers() as servers, tempfile.TemporaryDirectory(prefix="fraud-kill-") as directory:
        result = campaign(
            servers,
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
