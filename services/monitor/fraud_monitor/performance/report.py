"""The report of a run: a document in the bucket of runs, and a run in MLflow linked from the version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

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
from fraud_adapters.job.scratch import scratch_directory
from fraud_core.performance.figures import RATES, Figure, Part
from fraud_core.profile import Profile
from fraud_monitor.performance.measured import Measured, metric_rows
from fraud_monitor.run_context import EXPERIMENT, RunContext

HTML: Final = "performance.html"
MARKDOWN: Final = "performance.md"
ARTEFACT: Final = "performance"  # the folder within the MLflow run
_TITLES: Final = {"recall": "Recall", "precision": "Precision", "f1": "F1", "fpr": "FPR", "fnr": "FNR"}


@dataclass(frozen=True, slots=True)
class Report:
    """The stored report: the key of its HTML in the bucket, and both texts."""

    key: str
    html: str
    markdown: str
    pictures: Sequence[Picture]


def publish(context: RunContext, measured: Measured, reference: Profile | None) -> Report:
    """Write the report and store it with the run."""
    pictures = _pictures(measured, reference)
    elements = [*_document(measured, reference), *pictures]
    title = f"Performance of version {measured.champion}"
    report = Report(f"{context.run.prefix}/{HTML}", to_html(title, elements), to_markdown(elements), pictures)
    context.run.put(HTML, report.html.encode())
    context.run.put(MARKDOWN, report.markdown.encode())
    for picture in pictures:
        context.run.put(picture.reference, picture.content)
    return report


def track(context: RunContext, measured: Measured, report: Report | None) -> str:
    """Log figures and report to a run of MLflow, and link it from the version; returns the run's id.

    A run that is repeated continues its MLflow run.
    """
    folder, version = context.run.prefix, measured.champion
    earlier = context.tracked.find(folder)
    tags = {"kind": "performance", "model_version": version, "severity": measured.verdict.severity}
    name = f"performance {context.run.run_id}"
    run_id = earlier[0].run_id if earlier else context.tracked.open(EXPERIMENT, folder, name, tags)
    context.tracking().log(
        run_id,
        metrics={row.metric: row.value for row in metric_rows(measured) if not row.part},
        tags={**tags, "verdict": measured.verdict.sentence},
    )
    if report is not None:
        with scratch_directory() as directory:
            (directory / HTML).write_text(report.html, encoding="utf-8")
            (directory / MARKDOWN).write_text(report.markdown, encoding="utf-8")
            for picture in report.pictures:
                (directory / picture.reference).write_bytes(picture.content)
            context.tracking().log_files(run_id, directory, ARTEFACT)
    context.tracked.end(run_id, "FINISHED")
    context.tracking().tag_version(
        context.contract.registered_model,
        version,
        {"performance_run": run_id, "performance": measured.verdict.severity},
    )
    return run_id


def _pictures(measured: Measured, reference: Profile | None) -> list[Picture]:
    from fraud_monitor.performance import plots  # noqa: PLC0415 - takes half a second

    pictures = []
    if (scores := measured.figures.confidence) is not None:
        drawn = plots.calibration(scores, reference)
        pictures.append(Picture("Whether a score of 0.3 means 30 % frauds", "calibration.svg", drawn))
        drawn = plots.score_distribution(scores)
        pictures.append(Picture("Scores of legitimate transactions and of frauds", "scores.svg", drawn))
    if len(measured.trend) > 1:
        drawn = plots.trend(measured.trend)
        pictures.append(Picture("Recall, precision and F1 over time", "trend.svg", drawn))
    return pictures


def _document(measured: Measured, reference: Profile | None) -> Iterator[Element]:
    figures, verdict = measured.figures, measured.verdict
    counts = figures.counts
    yield Heading(f"Performance of version {measured.champion}", 1)
    yield Paragraph(f"Severity {verdict.severity}. {verdict.sentence}")
    yield Paragraph(
        f"Transactions that happened from {measured.start:%Y-%m-%d %H:%M} to "
        f"{measured.end:%Y-%m-%d %H:%M} UTC: "
        f"{counts.total:,} deciding predictions with a mature label, {counts.tp + counts.fn:,} "
        "frauds. Left out: "
        f"{measured.left_out_blocked:,} that were blocked and have no explicit label, "
        f"{measured.left_out_unknown:,} whose label is not mature."
    )
    if measured.problems:
        yield Points(list(measured.problems))
    yield Heading("Figures")
    yield _figures_table(measured)
    if verdict.comparisons:
        yield Heading("Against bounds")
        yield Points([f"{one.state}: {one}" for one in verdict.comparisons])
    if figures.bands:
        yield Heading("By amount")
        yield _parts_table(figures.bands, ("recall", "precision", "fpr"))
    yield Heading("By decision")
    yield _parts_table(figures.decisions, ("fraud_rate",))
    yield from _scores(measured, reference)
    yield from _service(measured)
    if measured.others:
        yield Heading("Other versions in the period")
        yield Table(
            ("version", "labels", "frauds", "recall", "precision"),
            [
                (version, f"{of.total:,}", f"{of.tp + of.fn:,}", _number(of.recall), _number(of.precision))
                for version, of in sorted(measured.others.items())
            ],
        )


def _figures_table(measured: Measured) -> Table:
    count, money, made = measured.figures.count, measured.figures.money, measured.held_out
    return Table(
        ("figure", "by number", "rests on", "by amount", "when the model was made"),
        [
            (
                _TITLES[name],
                _interval(count[name]),
                f"{count[name].rows:,}",
                _interval(money[name]) if money else "–",
                _number(made.get(name)),
            )
            for name in RATES
        ],
    )


def _parts_table(parts: Sequence[Part], names: Sequence[str]) -> Table:
    return Table(
        ("", "labels", "frauds", *(name.replace("_", " ") for name in names)),
        [
            (
                part.name,
                f"{part.rows:,}",
                f"{part.frauds:,}",
                *(_interval(part.figures[name]) for name in names),
            )
            for part in parts
        ],
    )


def _scores(measured: Measured, reference: Profile | None) -> Iterator[Element]:
    scores = measured.figures.confidence
    if scores is None:
        return
    yield Heading("Scores")
    rows: Mapping[str, tuple[float | None, float | None]] = {
        "mean score": (scores.mean_score, None),
        "share of frauds": (scores.fraud_rate, reference.scored_fraud_rate if reference else None),
        "calibration error": (scores.calibration_error, measured.held_out.get("calibration_error")),
        "Brier score": (scores.brier, measured.held_out.get("brier")),
        "average precision": (scores.average_precision, measured.held_out.get("average_precision")),
        "ROC AUC": (scores.roc_auc, measured.held_out.get("roc_auc")),
    }
    yield Table(
        ("", "now", "when the model was made"),
        [(name, _number(now), _number(made)) for name, (now, made) in rows.items()],
    )


def _service(measured: Measured) -> Iterator[Element]:
    yield Heading("Latency and throughput")
    served = measured.served
    if served is None or not served.total.predictions:
        yield Paragraph("No prediction was made in the latest window.")
        return
    names = {"": "all", "onnx": "single transactions (API)", "xgboost": "batches (stream)"}
    yield Table(
        ("milliseconds", "predictions", "p50", "p95", "p99"),
        [
            (
                names.get(one.engine, one.engine),
                f"{one.predictions:,}",
                *(_number(value, 1) for value in (one.p50, one.p95, one.p99)),
            )
            for one in served.latencies
        ],
    )
    yield Paragraph(
        f"{measured.throughput:.2f} predictions a second on average since "
        f"{measured.service_start:%Y-%m-%d %H:%M} UTC, {served.peak:,} in the busiest minute."
    )


def _interval(figure: Figure) -> str:
    if figure.value is None:
        return "–"
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
