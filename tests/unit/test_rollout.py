"""The rollout's command line, its checks of scores, and which way its verbs go; no server is needed."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.parameters import Parameters
from config.rollout import AgreementRules, LatencyRules
from config.settings import ConfigurationError, PlatformSettings, parameters
from fraud_adapters.job import NothingToDo
from fraud_adapters.job.failures import PassingFailure, RefusedFailure
from fraud_adapters.models.loading import Model
from fraud_adapters.objectstore.run_store import RunStore
from fraud_core.canary.comparison import agreement
from fraud_core.canary.evidence import Paired
from fraud_core.canary.rules import JudgementRules
from fraud_rollout import driving, observing, report
from fraud_rollout.arguments import parser
from fraud_rollout.chosen_deployment import NoDeployment, find
from fraud_rollout.job import VERBS
from fraud_rollout.run_context import RunContext
from fraud_rollout.validation import memory
from fraud_rollout.validation import verbs as validation
from fraud_rollout.validation.beside_champion import judge_agreement, judge_replay
from fraud_rollout.validation.findings import failed, insufficient, passed, reason_of, refuses
from fraud_rollout.validation.latency import check_latency
from fraud_rollout.validation.memory import check_memory
from fraud_rollout.validation.scores import check_scores, output_problem
from fraud_rollout.validation.versions import LoadedVersion
from tests.support.small_model import make_model
from tests.support.stored_rows import WIRE

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PARAMETERS: Parameters = parameters(PlatformSettings())
ARM = {"calls": 10, "errors": 0, "slow": 1, "rows": 200, "flagged": 10, "scores": [190, *[0] * 18, 10]}


def options_of(*arguments: str) -> argparse.Namespace:
    return parser(VERBS, NOW).parse_args(arguments)


def deployment(state: str = "canary", **changes: Any) -> dict[str, Any]:
    return {
        "deployment_id": 1,
        "name": "fraud-creditcard",
        "version": "7",
        "previous_version": "6",
        "mode": "canary",
        "state": state,
        "traffic_percent": 10,
        "run_id": "manual__1",
        "reason": None,
        "started_at": "2026-11-30T11:50:00Z",
        "stage_started_at": None,
        "window_ends": "2026-11-30T12:02:05Z",
        "extensions": 0,
        "ended_at": None,
        "findings": None,
        "events": [],
        "evidence": None,
        "judgement": None,
        **changes,
    }


@dataclass
class FakeDeployments:
    """Holds deployments, moves them as the API does, and keeps what was asked for."""

    held: list[dict[str, Any]]
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    done: list[tuple[Any, ...]] = field(default_factory=list)

    def latest(self, limit: int = 100) -> list[dict[str, Any]]:
        return self.held[:limit]

    def get(self, deployment_id: int) -> dict[str, Any]:
        return next(one for one in self.held if one["deployment_id"] == deployment_id)

    def evaluate(self, deployment_id: int) -> dict[str, Any]:
        self.done.append(("evaluate", deployment_id))
        return self.evaluations.pop(0)

    def set_traffic(self, deployment_id: int, percent: int) -> dict[str, Any]:
        self.done.append(("traffic", percent))
        return self._moved(deployment_id, traffic_percent=percent)

    def promote(self, deployment_id: int, *, force: bool, reason: str | None) -> dict[str, Any]:
        self.done.append(("promote", force, reason))
        return self._moved(deployment_id, state="promoted")

    def roll_back(self, deployment_id: int, reason: str, *, withdrawn: bool) -> dict[str, Any]:
        self.done.append(("roll_back", reason, withdrawn))
        return self._moved(deployment_id, state="withdrawn" if withdrawn else "rolled_back", reason=reason)

    def abort(self, deployment_id: int, reason: str) -> dict[str, Any]:
        self.done.append(("abort", reason))
        return self._moved(deployment_id, state="aborted", reason=reason)

    def _moved(self, deployment_id: int, **changes: Any) -> dict[str, Any]:
        self.get(deployment_id).update(changes)
        return self.get(deployment_id)


@dataclass
class Store:
    """A bucket in memory; may be one that does not answer."""

    files: dict[str, bytes] = field(default_factory=dict)
    broken: bool = False

    def put_bytes(self, key: str, content: bytes) -> None:
        if self.broken:
            raise PassingFailure("The object store does not answer.")
        self.files[key] = content

    def get_bytes(self, key: str) -> bytes:
        return self.files[key]


def context_of(api: FakeDeployments, store: Store | None = None) -> RunContext:
    made: Any = RunContext(
        contract=WIRE,
        parameters=PARAMETERS,
        api=api,  # type: ignore[arg-type]
        replica=lambda: pytest.fail("the replica is not needed"),
        registry=lambda: pytest.fail("the registry is not needed"),
        database=lambda: pytest.fail("the database is not needed"),
        folder=lambda run_id: RunStore(store or Store(), "05_model_deployment_canary", run_id, ()),
        dag="05_model_deployment_canary",
        now=NOW,
    )
    context: RunContext = made
    return context


# The command line.

OVER_HTTP = ["check-health", "test-endpoints", "shadow"]


def test_every_verb_has_a_text_and_runs_by_itself() -> None:
    names = [verb.name for verb in VERBS]
    assert names == [
        "validate",
        *OVER_HTTP,
        "deploy",
        "evaluate",
        "promote",
        "rollback",
        "abort",
        "observe",
        "status",
    ]
    for name in names:
        assert options_of(name).dag == "05_model_deployment_canary"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["validate", "--version", "0"], "must be a version such as 7, or an alias"),
        (["validate", "--version", "7; drop"], "must be a version such as 7, or an alias"),
        (["validate", "--run-id", "x" * 101], "must have at most 100 characters"),
        (["deploy", "--percent", "100"], "100"),
        (["deploy", "--run-id", "a", "--deployment-id", "1"], "not allowed with argument"),
        (["rollback", "--reason", " "], "must be a sentence"),
        (["status", "--every", "soon"], "must be a span"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    arguments: Sequence[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        options_of(*arguments)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_deployment_is_found_by_number_by_run_and_by_running() -> None:
    ended, running = (
        deployment("promoted", deployment_id=1),
        deployment("canary", deployment_id=2, run_id="b"),
    )
    api: Any = FakeDeployments([running, ended])
    assert find(api, options_of("deploy"))["deployment_id"] == 2
    assert find(api, options_of("deploy", "--run-id=manual__1"))["deployment_id"] == 1
    assert find(api, options_of("deploy", "--deployment-id=1"))["deployment_id"] == 1
    with pytest.raises(NoDeployment, match="The run c has opened no deployment"):
        find(api, options_of("deploy", "--run-id=c"))
    api.held = [ended]
    with pytest.raises(NoDeployment, match="No deployment is running: name one by --deployment-id"):
        find(api, options_of("deploy"))


# Driving.


@pytest.mark.parametrize(
    ("state", "percent", "options", "wanted"),
    [
        ("validated", 0, (), 10),
        ("canary", 10, (), 50),
        ("widened", 50, (), 50),
        ("validated", 0, ("--percent=7",), 7),
    ],
)
def test_the_next_share_of_traffic_is_the_configured_one(
    state: str, percent: int, options: Sequence[str], wanted: int
) -> None:
    api = FakeDeployments([deployment(state, traffic_percent=percent)])
    result = driving.deploy(context_of(api), options_of("deploy", *options))
    assert api.done == [("traffic", wanted)]
    assert result["traffic_percent"] == wanted
    assert f"serves {wanted} % of the traffic" in result["text"]


@pytest.mark.parametrize(("state", "percent", "wanted"), [("shadow", 0, 30), ("canary", 30, 50)])
def test_over_http_the_shares_have_a_configuration_of_their_own(
    state: str, percent: int, wanted: int
) -> None:
    api = FakeDeployments([deployment(state, traffic_percent=percent, mode="http")])
    driving.deploy(context_of(api), options_of("deploy"))
    assert api.done == [("traffic", wanted)]


def evaluation(following: str, **changes: Any) -> dict[str, Any]:
    verdict = {"advance": "promote", "roll_back": "roll_back"}.get(following, "inconclusive")
    found = {"verdict": verdict, "sentence": "So it is.", "next": following, "state": "canary"}
    return {**found, "window_ends": None, "extensions": 0, **changes}


def test_a_stage_is_judged_once_or_until_it_is_decided() -> None:
    api = FakeDeployments([deployment()], [evaluation("wait")])
    result = driving.evaluate(context_of(api), options_of("evaluate"))
    assert (result["next"], result["verdict"], len(api.done)) == ("wait", "inconclusive", 1)
    api = FakeDeployments([deployment()], [evaluation("wait"), evaluation("wait"), evaluation("advance")])
    result = driving.evaluate(context_of(api), options_of("evaluate", "--wait", "--every=0.1s"))
    assert (result["next"], result["sentence"], len(api.done)) == ("advance", "So it is.", 3)


def judged(verdict: str, sentence: str) -> dict[str, Any]:
    return {
        "at": "2026-11-30T12:00:00Z",
        "kind": "judged",
        "details": {"verdict": verdict, "sentence": sentence},
    }


@pytest.mark.parametrize(
    ("events", "arguments", "reason", "withdrawn"),
    [
        ([], (), "A step of the release failed before its evidence was judged.", True),
        ([judged("inconclusive", "Too few.")], (), "Too few.", True),
        (
            [judged("inconclusive", "Too few."), judged("roll_back", "Recall fell.")],
            (),
            "Recall fell.",
            False,
        ),
        (
            [judged("promote", "Fine.")],
            (),
            "A step of the release failed after the verdict to promote. Fine.",
            True,
        ),
        ([judged("roll_back", "Recall fell.")], ("--reason=By hand.",), "By hand.", False),
        ([], ("--reason=By hand.", "--withdrawn"), "By hand.", True),
    ],
)
def test_a_version_is_taken_back_for_the_reason_of_the_latest_verdict(
    events: list[dict[str, Any]], arguments: Sequence[str], reason: str, withdrawn: bool
) -> None:
    api, store = FakeDeployments([deployment("canary", events=events)]), Store()
    result = driving.roll_back(context_of(api, store), options_of("rollback", *arguments))
    assert api.done == [("roll_back", reason, withdrawn)]
    assert result["severity"] == ("medium" if withdrawn else "high")
    assert result["title"] == f"Version 7 was {'withdrawn' if withdrawn else 'rolled back'}"
    assert result["text"] == reason
    folder = "runs/05_model_deployment_canary/manual__1"
    assert result["report"] == f"{folder}/report.html"
    assert {f"{folder}/{name}" for name in ("report.html", "report.md", "report.json")} <= store.files.keys()


@pytest.mark.parametrize("state", ["promoted", "refused", "aborted"])
def test_what_is_decided_is_not_taken_back(state: str) -> None:
    api = FakeDeployments([deployment(state)])
    with pytest.raises(NothingToDo, match=f"is {state} already"):
        driving.roll_back(context_of(api), options_of("rollback", "--run-id=manual__1"))
    with pytest.raises(NothingToDo, match="has opened no deployment"):
        driving.roll_back(context_of(api), options_of("rollback", "--run-id=another"))
    assert api.done == []


@pytest.mark.parametrize("state", ["rolled_back", "withdrawn"])
def test_what_the_api_took_back_by_itself_is_reported(state: str) -> None:
    api = FakeDeployments([deployment(state, reason="Errors.")])
    result = driving.roll_back(context_of(api), options_of("rollback", "--run-id=manual__1"))
    assert (api.done, result["state"], result["text"]) == ([], state, "Errors.")


def test_a_promotion_is_forced_only_with_a_reason() -> None:
    api = FakeDeployments([deployment("widened")])
    with pytest.raises(ConfigurationError, match="--force: say by --reason"):
        driving.promote(context_of(api), options_of("promote", "--force"))
    result = driving.promote(context_of(api), options_of("promote", "--force", "--reason=Now."))
    assert api.done == [("promote", True, "Now.")]
    assert (result["title"], result["severity"]) == ("Version 7 is champion", "none")


def test_a_report_that_cannot_be_stored_fails_nothing() -> None:
    api = FakeDeployments([deployment("widened")])
    result = driving.abort(context_of(api, Store(broken=True)), options_of("abort"))
    assert api.done == [("abort", "A person stopped it.")]
    assert (result["report"], result["problems"]) == (None, ["The object store does not answer."])


# Looking.


def in_traffic() -> dict[str, Any]:
    evidence = {"control": ARM, "canary": {**ARM, "errors": 2, "rows": 0, "flagged": 0}}
    checks = [{"name": "error_rate", "outcome": "passed", "sentence": "Few errors."}]
    judgement = {"verdict": "inconclusive", "sentence": "Too few.", "checks": checks}
    return deployment(evidence=evidence, judgement=judgement)


def test_one_line_says_where_a_deployment_stands() -> None:
    assert observing.one_line(in_traffic(), NOW) == (  # type: ignore[arg-type]
        "deployment 1: version 7 canary; 10 %; window ends in 2:05; "
        "control: 10 calls, 200 rows, 5.00% flagged, 1 slow; canary: 10 calls, 0 rows, 2 errors, 1 slow; "
        "inconclusive: Too few."
    )


def test_a_screen_shows_the_running_deployment_and_the_latest(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeDeployments([in_traffic(), deployment("refused", deployment_id=0, reason="It is too slow.")])
    result = observing.status(context_of(api), options_of("status"))
    text = capsys.readouterr().err
    assert text == "\n".join(result["lines"]) + "\n"
    assert "Deployment 1: version 7 is canary, 10 % of the traffic; champion when it began: 6." in text
    assert "control         10       0      1       200       10    5.00%" in text
    assert "passed       error_rate: Few errors." in text
    assert "It is too slow." in text
    assert [one["state"] for one in result["deployments"]] == ["canary", "refused"]


def test_watching_ends_with_the_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeDeployments([in_traffic()])
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            api.roll_back(1, "Worse.", withdrawn=False)

    monkeypatch.setattr(observing, "sleep", pause)
    result = observing.status(context_of(api), options_of("status", "--watch", "--every=1s"))
    assert pauses == [1.0, 1.0]
    assert result["deployments"][0]["state"] == "rolled_back"
    api = FakeDeployments([deployment("promoted")])
    assert observing.observe(context_of(api), options_of("observe", "--deployment-id=1", "--watch"))["lines"]


def test_no_running_deployment_is_not_an_error_of_status(capsys: pytest.CaptureFixture[str]) -> None:
    result = observing.status(context_of(FakeDeployments([])), options_of("status"))
    assert result["lines"] == ["No deployment is running."]
    assert "No deployment is running." in capsys.readouterr().err


# The report.


def test_the_report_has_the_figures_of_each_stage() -> None:
    check = {
        "name": "error_rate",
        "outcome": "passed",
        "value": 0.01,
        "low": 0.0,
        "high": 0.02,
        "bound": 0.03,
    }
    evidence = {"control": ARM, "canary": ARM, "share": 0.1, "paired": None}
    numbers = {"sentence": "Fine.", "evidence": evidence, "checks": [{**check, "sentence": "Few errors."}]}
    events = [
        {"at": "1", "kind": "canary", "details": {"percent": 10}},
        {"at": "2", "kind": "judged", "details": {"verdict": "inconclusive", **numbers}},
        {"at": "3", "kind": "judged", "details": {"verdict": "promote", **numbers}},
        {"at": "4", "kind": "widened", "details": {"percent": 50}},
        {"at": "5", "kind": "judged", "details": {"verdict": "promote", **numbers}},
    ]
    findings = {"checks": [passed("files", "They are as recorded.")]}
    store, ended = Store(), deployment("promoted", events=events, findings=findings)
    key, problem = report.publish(context_of(FakeDeployments([]), store), ended, "It is champion")  # type: ignore[arg-type]
    assert problem is None
    assert key is not None
    markdown = store.files[key.replace(".html", ".md")].decode()
    assert "## At 10 % of the traffic\n\nVerdict: promote. Fine." in markdown
    assert "## At 50 % of the traffic" in markdown
    assert "| files | passed | They are as recorded. |" in markdown
    assert "| control | 10 | 0 | 1 | 200 | 10 | 5.00% |" in markdown
    assert "| error_rate | passed | 0.0100 | 0.0000 to 0.0200 | 0.0300 | Few errors. |" in markdown
    assert b"<svg" in store.files[key.replace("report.html", "scores.svg")]


# The checks.


@pytest.fixture
def version(tmp_path: Path) -> LoadedVersion:
    manifest = make_model(tmp_path, WIRE)
    model = Model.load(tmp_path, manifest.digest(), WIRE)
    example = np.zeros((2, len(WIRE.features)), dtype=np.float32)
    return LoadedVersion("7", model, None, example, None)


def rows(count: int) -> Any:
    return np.random.default_rng(3).normal(size=(count, len(WIRE.features))).astype(np.float32)


def outcomes(findings: Any) -> dict[str, str]:
    return {one["name"]: one["outcome"] for one in findings}


def test_a_sound_version_passes_the_checks_of_its_scores(version: LoadedVersion) -> None:
    findings = list(check_scores(version, rows(300), 1e-5))
    # Both rows of this example are the same.
    assert outcomes(findings) == {
        "outputs": "passed",
        "engines": "passed",
        "single_rows": "passed",
        "example": "failed",
    }
    assert "the wrong way round" in findings[-1]["sentence"]


def test_engines_that_differ_are_refused(version: LoadedVersion) -> None:
    findings = outcomes(check_scores(version, rows(300), 1e-30))
    assert findings["engines"] == "failed"


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (np.array([0.5, np.nan]), "1 of 2 scores are not finite numbers."),
        (np.array([0.5, 1.5]), "Scores lie between 0.5 and 1.5 instead of 0 and 1."),
        (np.array([0.5]), "The version answers 2 rows with scores of shape (1,)."),
        (np.array([0.0, 1.0]), None),
    ],
)
def test_scores_that_are_no_probabilities_are_named(scores: Any, sentence: str | None) -> None:
    assert output_problem(scores, 2) == sentence


def test_a_version_that_is_too_slow_is_refused(version: LoadedVersion) -> None:
    rules = LatencyRules(singles=50, batches=10)
    fine = outcomes(check_latency(version.model, version.model, rows(20), rules, 200.0))
    assert set(fine.values()) == {"passed"}
    assert len(fine) == 4
    slow = list(check_latency(version.model, None, rows(20), rules, 1e-6))
    assert outcomes(slow) == {"latency_single": "failed", "latency_batch": "failed"}
    assert slow[0]["sentence"].endswith("The p99 may be 1e-06 ms.")


def test_memory_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    digest = make_model(tmp_path, WIRE).digest()
    fine = check_memory(tmp_path, digest, WIRE, 512)
    assert fine["outcome"] == "passed"
    assert 0.1 < (fine["value"] or 0) < 100
    assert check_memory(tmp_path, digest, WIRE, 0.001)["outcome"] == "failed"


def test_a_version_that_ends_the_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_growth_mib", _ends_the_process)
    found = check_memory(tmp_path, "", WIRE, 512)
    assert (found["outcome"], found["sentence"]) == (
        "failed",
        "The process that loaded the version was killed.",
    )


def _ends_the_process(*_files: object) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def test_much_disagreement_is_refused() -> None:
    one, other = np.zeros(10, dtype=np.int8), np.full(10, 2, dtype=np.int8)
    rules = AgreementRules()
    assert judge_agreement(agreement(one, one, None), rules)["outcome"] == "passed"
    found = judge_agreement(agreement(one, other, np.full(10, 5.0)), rules)
    assert found["outcome"] == "failed"
    assert found["sentence"] == (
        "Of 10 recent transactions 10 (100.00%) are decided differently: 10 more strictly, 0 more mildly, "
        "50.00 in all."
    )
    nothing = np.empty(0, dtype=np.int8)
    assert judge_agreement(agreement(nothing, nothing, None), rules)["outcome"] == "insufficient"


@pytest.mark.parametrize(
    ("counts", "recall", "fpr"),
    [
        (Paired(1000, 900, 10, 12, 20_000, 50, 5, 6), "passed", "passed"),
        (Paired(1000, 800, 150, 2, 20_000, 50, 5, 6), "failed", "passed"),
        (Paired(1000, 900, 10, 12, 20_000, 50, 5, 600), "passed", "failed"),
        # Worse by four points of a hundred frauds, which may be chance.
        (Paired(100, 80, 8, 4, 20_000, 50, 5, 6), "passed", "passed"),
        (Paired(0, 0, 0, 0, 0, 0, 0, 0), "insufficient", "insufficient"),
    ],
)
def test_a_replay_refuses_what_is_shown_to_be_worse(counts: Paired, recall: str, fpr: str) -> None:
    found = list(judge_replay(counts, JudgementRules(), 0.99))
    assert outcomes(found) == {"replay_recall": recall, "replay_fpr": fpr}


def test_what_checks_come_to_is_one_reason() -> None:
    findings = [passed("files", "Fine."), insufficient("replay_recall", "No labels.")]
    assert not refuses(findings)
    assert reason_of(findings) == "All 1 checks passed; not judged: replay_recall."
    findings += [failed("memory", "It is large."), failed("engines", "They differ.")]
    assert refuses(findings)
    assert reason_of(findings) == "It is large. They differ."


def test_a_repeated_validation_gives_the_first_result() -> None:
    checks = [failed("memory", "It is large.")]
    known = deployment("refused", reason="It is large.", findings={"checks": checks})
    api: Any = FakeDeployments([known])
    api.open = lambda version, run_id, mode: known
    with pytest.raises(RefusedFailure, match=r"Version 7 gets no traffic: It is large\.") as refused:
        validation.validate(context_of(api), options_of("validate", "--run-id=manual__1"))
    assert refused.value.result["findings"] == checks
    known.update(state="widened", reason="All 1 checks passed.", findings={"checks": checks[:0]})
    assert validation.validate(context_of(api), options_of("validate"))["passed"] is True
