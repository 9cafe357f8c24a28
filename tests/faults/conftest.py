"""The world the faults happen to: started once, for itself, since its servers get killed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.faults.crew import Crew, crew
from tests.faults.feed import Feed
from tests.faults.world import World, running_world
from tests.integration.streaming_site import StreamingSite


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with running_world() as made:
        yield made


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Who starts consumers."""
    with crew(tmp_path_factory.mktemp("crew")) as made:
        yield made


@pytest.fixture
def site(world: World) -> Iterator[StreamingSite]:
    """Fresh topics of two partitions and an empty database."""
    with world.site() as made:
        yield made


@pytest.fixture
def feed(site: StreamingSite, seed: int) -> Iterator[Feed]:
    with Feed(site, seed) as made:
        yield made


@pytest.fixture
def seed(capsys: pytest.CaptureFixture[str]) -> int:
    """From FAULT_SEED, or a new one; shown in any case, so that a run can be repeated."""
    chosen = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
    with capsys.disabled():
        print(f" FAULT_SEED={chosen} ", end="", flush=True)
    return chosen
