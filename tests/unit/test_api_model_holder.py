"""The model holder, with a registry and a database that do as the test says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from config.parameters import read_yaml
from fraud_adapters.models.recorded import VersionRefused
from fraud_adapters.models.registry import ArtefactRefused, RegistryUnavailable
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_api import model_holder
from fraud_api.metrics import Metrics
from fraud_api.model_holder import ModelHolder
from fraud_core.contract import Contract
from tests.support.small_model import make_model

WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))


@dataclass
class ModelSources:
    """The registry's versions and alias, and the rows of `model_versions`."""

    folder: Path
    alias: str | None = None
    others: dict[str, str] = field(default_factory=dict)  # further aliases
    reachable: bool = True
    oversized: tuple[str, ...] = ()
    database: bool = True
    downloads: list[str] = field(default_factory=list)
    rows: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    audited_others: dict[str, str] = field(default_factory=dict)
    _answer: tuple[Any, ...] | None = None
    audited: list[str] = field(default_factory=list)  # versions whose champion alias the audit log knows

    def publish(self, version: str, seed: int = 1, contract: Contract = WIRE, **row: Any) -> None:
        digest = make_model(self.folder / version, contract, seed).digest()
        values = {"digest": digest, "contract": contract.schema_id, "policy": "test", "passed": True} | row
        self.rows[version] = (*values.values(), {}, {})
        self.alias = version

    # --- the registry

    def aliases(self, name: str) -> dict[str, str]:
        assert name == "fraud-wire"
        if not self.reachable:
            raise RegistryUnavailable("MLflow is away.")
        return self.others | ({} if self.alias is None else {"champion": self.alias})

    def download(self, name: str, version: str, destination: Path) -> Path:
        if not self.reachable:
            raise RegistryUnavailable("MLflow is away.")
        if version in self.oversized:
            raise ArtefactRefused("The model's file model.onnx exceeds 5 bytes.")
        self.downloads.append(version)
        shutil.copytree(self.folder / version, destination, dirs_exist_ok=True)
        return destination

    # --- the database: a session, and its cursor

    def run(self, work: Callable[[Any], Any]) -> Any:
        if not self.database:
            raise DatabaseUnavailable("The database is away.")
        return work(self)

    def execute(self, statement: str, values: tuple[str, ...]) -> None:
        if "pg_advisory_xact_lock" in statement:
            self._answer = None
        elif "audit_alias_taken_up" in statement and values[1] != "champion":
            self._answer = (self.audited_others.get(values[1]) != values[2],)
            self.audited_others[values[1]] = values[2]
        elif "audit_alias_taken_up" in statement:
            new = self.audited[-1:] != [values[2]]
            self.audited += [values[2]] if new else []
            self._answer = (new,)
        else:
            self._answer = self.rows.get(values[1])

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._answer


@pytest.fixture
def sources(tmp_path: Path) -> ModelSources:
    return ModelSources(tmp_path / "registry")


@pytest.fixture
def make_holder(sources: ModelSources, tmp_path: Path) -> Callable[[], ModelHolder]:
    return lambda: ModelHolder(WIRE, sources, sources, tmp_path / "cache", Metrics())  # type: ignore[arg-type]


@pytest.fixture
def holder(make_holder: Callable[[], ModelHolder]) -> ModelHolder:
    return make_holder()


def state_of(holder: ModelHolder) -> tuple[str | None, str | None]:
    return version_of(holder), holder.problem


def version_of(holder: ModelHolder) -> str | None:
    return holder.current.version if holder.current else None


def test_the_champion_is_taken_over_and_downloaded_once(sources: ModelSources, holder: ModelHolder) -> None:
    holder.poll()
    assert version_of(holder) is None
    assert holder.problem == "fraud-wire has no champion."
    sources.publish("1")
    holder.poll()
    holder.poll()
    sources.publish("2", seed=2)
    holder.poll()
    assert state_of(holder) == ("2", None)
    sources.alias = "1"
    holder.poll()
    assert version_of(holder) == "1"
    assert sources.downloads == ["1", "2"]


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "another digest": ({"digest": "0" * 64}, "digest"),
    "gate failed": ({"passed": False}, "gate"),
}


@pytest.mark.parametrize(("row", "word"), REFUSALS.values(), ids=REFUSALS)
def test_what_may_not_serve_is_refused_and_not_fetched_again_and_again(
    sources: ModelSources, holder: ModelHolder, row: dict[str, Any], word: str
) -> None:
    sources.publish("1")
    holder.poll()
    sources.publish("2", seed=2, **row)
    for _ in range(3):
        holder.poll()
    assert version_of(holder) == "1"
    assert holder.problem is not None
    assert word in holder.problem
    assert sources.downloads.count("2") <= 1
    # Once its record is put right it is looked at again at once.
    sources.publish("2", seed=2)
    holder.poll()
    assert state_of(holder) == ("2", None)


def test_a_version_without_record_is_refused(sources: ModelSources, holder: ModelHolder) -> None:
    sources.publish("1")
    sources.rows.clear()
    holder.poll()
    assert version_of(holder) is None
    assert "model_versions" in str(holder.problem)


def test_a_model_of_another_contract_is_refused(sources: ModelSources, holder: ModelHolder) -> None:
    other = WIRE.model_copy(update={"version": 4})
    sources.publish("1", contract=other)
    holder.poll()
    assert version_of(holder) is None
    assert "wire/4" in str(holder.problem)


def test_a_touched_file_is_refused_and_a_touched_cache_is_fetched_again(
    sources: ModelSources, holder: ModelHolder, make_holder: Callable[[], ModelHolder], tmp_path: Path
) -> None:
    sources.publish("1")
    holder.poll()
    (cached,) = (tmp_path / "cache" / "fraud-wire").glob("1-*/model.onnx")
    cached.write_bytes(b"other")
    again = make_holder()
    again.poll()
    assert version_of(again) == "1"
    assert sources.downloads == ["1", "1"]
    (sources.folder / "1" / "model.ubj").write_bytes(b"other")
    cached.write_bytes(b"other")
    third = make_holder()
    third.poll()
    assert version_of(third) is None


def test_without_registry_or_database_what_serves_goes_on(sources: ModelSources, holder: ModelHolder) -> None:
    sources.publish("1")
    holder.poll()
    sources.reachable = False
    holder.poll()
    assert state_of(holder) == ("1", "The model registry does not respond correctly.")
    sources.reachable = True
    sources.publish("2", seed=2)
    sources.database = False
    holder.poll()
    assert state_of(holder) == ("1", "The database does not answer.")
    sources.database = True
    holder.poll()
    assert state_of(holder) == ("2", None)


def test_a_start_without_registry_takes_the_version_served_last(
    sources: ModelSources, holder: ModelHolder, make_holder: Callable[[], ModelHolder]
) -> None:
    sources.publish("1")
    holder.poll()
    sources.reachable = False
    restarted = make_holder()
    restarted.poll()
    assert version_of(restarted) == "1"
    # Its gate counts at every start: a version that was withdrawn does not come back.
    sources.publish("1", passed=False)
    withdrawn = make_holder()
    withdrawn.poll()
    assert version_of(withdrawn) is None


def test_old_versions_leave_the_cache(
    sources: ModelSources, holder: ModelHolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_holder, "KEEP_VERSIONS", 2)
    for number in range(1, 5):
        sources.publish(str(number), seed=number)
        holder.poll()
    # Used last counts, not made last: what serves stays.
    sources.alias = "3"
    holder.poll()
    sources.publish("5", seed=5)
    holder.poll()
    versions = sorted(path.name[0] for path in (tmp_path / "cache" / "fraud-wire").iterdir() if path.is_dir())
    assert versions == ["3", "5"]


def test_a_version_too_large_to_load_is_refused_like_one_with_other_files(
    sources: ModelSources, holder: ModelHolder
) -> None:
    sources.publish("1")
    holder.poll()
    sources.publish("2", seed=2)
    sources.oversized = ("2",)
    holder.poll()
    assert state_of(holder) == ("1", "The model's file model.onnx exceeds 5 bytes.")


def test_a_reload_checks_at_once_what_was_refused_lately(sources: ModelSources, holder: ModelHolder) -> None:
    sources.publish("1")
    sources.oversized = ("1",)
    assert holder.reload() is None
    sources.oversized = ()
    holder.poll()
    assert version_of(holder) is None
    serving = holder.reload()
    assert serving is not None
    assert serving.version == "1"


def test_each_version_taken_up_is_audited_unless_the_registry_is_away(
    sources: ModelSources, holder: ModelHolder, make_holder: Callable[[], ModelHolder]
) -> None:
    for version in ("1", "2"):
        sources.publish(version, seed=int(version))
        holder.poll()
        holder.poll()
    sources.alias = "1"
    holder.poll()
    assert sources.audited == ["1", "2", "1"]
    sources.reachable = False
    sources.audited.clear()
    restarted = make_holder()
    restarted.poll()
    # Nobody knows where the alias points now.
    assert (version_of(restarted), sources.audited) == ("1", [])


def test_a_version_can_be_checked_without_serving_it(sources: ModelSources, holder: ModelHolder) -> None:
    sources.publish("1")
    holder.poll()
    sources.publish("2", seed=2)
    holder.check("2")
    assert version_of(holder) == "1"
    sources.publish("3", passed=False)
    for version, word in (("3", "gate"), ("4", "not in model_versions")):
        with pytest.raises(VersionRefused, match=word):
            holder.check(version)


def test_other_aliases_are_audited_when_they_move_and_later_where_the_database_is_away(
    sources: ModelSources, holder: ModelHolder
) -> None:
    sources.publish("1")
    sources.others = {"challenger": "2", "somebodys": "9"}
    holder.poll()
    assert sources.audited_others == {"challenger": "2"}
    sources.others = {"shadow": "3"}
    sources.database = False
    holder.poll()
    # What serves is not in doubt because of that.
    assert state_of(holder) == ("1", None)
    sources.database = True
    holder.poll()
    assert sources.audited_others == {"challenger": "2", "shadow": "3"}
