"""The report of a release: how it ended, what was found, and the figures of each arm by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from config.job_results.rollout import FindingResult
from fraud_adapters.deployments_client import Deployment
from fraud_adapters.documents import (
    Element,
    Heading,
    Paragraph,
    Picture,
    Points,
    Table,
    to_html,
    to_markdown,
)
from fraud_adapters.job import EXPECTED, failure_of
from fraud_adapters.job.logs import get_logger
from fraud_rollout.chosen_deployment import findings_of
from fraud_rollout.run_context import RunContext

HTML: Final = "report.html"
MARKDOWN: Final = "report.md"
JSON: Final = "report.json"
PLOT: Final = "scores.svg"
_ARMS: Final = ("control", "canary")
_RATES: Final = (
    ("Share of transactions flagged", "flagged.svg", "flagged", "rows"),
    ("Share of calls that failed", "errors.svg", "errors", "calls"),
    ("Share of calls that were slow", "slow.svg", "slow", "calls"),
)
_DIGITS: Final = 4


def publish(context: RunContext, deployment: Deployment, title: str) -> tuple[str | None, str | None]:
    """Store the report with the run; returns the key of its page, or why it could not be stored.

    The release has ended by then, so that a report that cannot be stored fails nothing.
    """
    folder = context.folder(deployment["run_id"] or f"deployment-{deployment['deployment_id']}")
    pictures = list(_pictures(deployment))
    elements = [*_document(deployment, title), *pictures]
    try:
        for picture in pictures:
            folder.put(picture.reference, picture.content)
        folder.put(JSON, orjson.dumps({"title": title, "deployment": deployment}))
        folder.put(MARKDOWN, to_markdown(elements).encode())
        folder.put(HTML, to_html(title, elements).encode())
    except EXPECTED as error:
        problem = str(failure_of(error))
        get_logger(__name__).warning("report_not_stored", reason=problem)
        return None, problem
    return f"{folder.prefix}/{HTML}", None


def _document(deployment: Deployment, title: str) -> Iterator[Element]:
    yield Heading(title, 1)
    yield Paragraph(
        f"{deployment['name']}, version {deployment['version']}; champion when it began: "
        f"{deployment['previous_version'] or 'none'}. Begun {deployment['started_at']}, "
        f"ended {deployment['ended_at'] or 'not yet'}."
    )
    if deployment["reason"]:
        yield Paragraph(deployment["reason"])
    for heading, findings in (
        ("Before any traffic", findings_of(deployment)),
        ("Tests of its endpoints", _endpoint_findings(deployment)),
    ):
        if findings:
            yield Heading(heading)
            yield Table(
                ("check", "outcome", "what was found"),
                [(one["name"], one["outcome"], one["sentence"]) for one in findings],
            )
    yield from _stages(deployment)
    yield Heading("What happened")
    yield Points([f"{event['at']}: {_event(event)}" for event in deployment.get("events", [])])


def _endpoint_findings(deployment: Deployment) -> list[FindingResult]:
    """Of a release over HTTP, kept with its event `shadow`."""
    shadows = [event["details"] for event in deployment.get("events", []) if event["kind"] == "shadow"]
    return list((shadows[-1].get("findings") or {}).get("checks") or []) if shadows else []


def last_judgements(deployment: Deployment) -> dict[int, Mapping[str, Any]]:
    """The latest judgement of each stage, by the stage's share of traffic in percent; of a shadow, 0."""
    percent, latest = 0, {}
    for event in deployment.get("events", []):
        details = event["details"]
        percent = details.get("percent", percent)
        if event["kind"] == "judged" and "evidence" in details:
            latest[percent] = details
    return latest


def _stages(deployment: Deployment) -> Iterator[Element]:
    for percent, judged in last_judgements(deployment).items():
        yield Heading(_stage(percent))
        yield Paragraph(f"Verdict: {judged['verdict']}. {judged['sentence']}")
        arms = judged["evidence"]
        yield Table(
            ("arm", "calls", "errors", "slow", "rows", "flagged", "share flagged"),
            [(arm, *_counts(arms[arm])) for arm in _ARMS],
        )
        if requests := arms.get("requests"):
            yield Table(
                ("arm", "scoring requests", "failed", "slow"),
                [(arm, *_answered(requests[arm])) for arm in _ARMS],
            )
        yield Table(
            ("check", "outcome", "value", "interval", "bound", "what it says"),
            [_check(check) for check in judged.get("checks", [])],
        )


def _stage(percent: int) -> str:
    return f"At {percent} % of the traffic" if percent else "As a shadow"


def _answered(counts: Mapping[str, int] | None) -> tuple[str, ...]:
    if counts is None:
        return ("unknown", "–", "–")
    return tuple(f"{counts[name]:,}" for name in ("requests", "failed", "slow"))


def _counts(arm: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{arm[name]:,}" for name in ("calls", "errors", "slow", "rows", "flagged"))
    yield f"{arm['flagged'] / arm['rows']:.2%}" if arm["rows"] else "–"


def _check(check: Mapping[str, Any]) -> tuple[str, ...]:
    interval = "–" if check.get("low") is None else f"{_number(check['low'])} to {_number(check['high'])}"
    value, bound = _number(check.get("value")), _number(check.get("bound"))
    return check["name"], check["outcome"], value, interval, bound, check["sentence"]


def _event(event: Mapping[str, Any]) -> str:
    details = event["details"]
    words = [event["kind"]]
    words += [f"{details[name]}" for name in ("verdict", "reason", "sentence") if details.get(name)]
    if details.get("percent"):
        words.insert(1, f"{details['percent']} %")
    return ": ".join(dict.fromkeys(words))


def _pictures(deployment: Deployment) -> Iterator[Picture]:
    judged = last_judgements(deployment)
    if not judged:
        return
    from fraud_rollout import plots  # noqa: PLC0415 - takes half a second

    stages = {_stage(percent): one["evidence"] for percent, one in judged.items()}
    stage, latest = list(stages.items())[-1]
    if all(sum(latest[arm]["scores"]) for arm in _ARMS):
        title = f"Scores {stage[0].lower()}{stage[1:]}"
        scores = {arm: latest[arm]["scores"] for arm in _ARMS}
        yield Picture(title, PLOT, plots.score_distribution(title, scores))
    for title, name, part, whole in _RATES:
        rates = {
            arm: [one[arm][part] / one[arm][whole] if one[arm][whole] else 0.0 for one in stages.values()]
            for arm in _ARMS
        }
        yield Picture(title, name, plots.rates(title, list(stages), rates))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.{_DIGITS}f}"
