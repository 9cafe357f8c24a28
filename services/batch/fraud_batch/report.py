"""The compliance report of a run: what was scored by what, for whom, and with which result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fraud_adapters.documents import Element, Heading, Paragraph, Points, Table, to_html
from fraud_batch.tally import BINS, Tally

_BAR: Final = 40  # characters of the longest bar


def to_page(report: Mapping[str, Any]) -> str:
    """The report as one HTML file."""
    title = f"Batch prediction {report['run_id']}"
    tally = Tally.from_mapping(report["counts"])
    model, data, output = report["model"], report["input"], report["output"]
    elements: list[Element] = [
        Heading(title, 1),
        Paragraph(
            f"{tally.scored:,} of {tally.rows:,} transactions were scored by version {model['version']} of "
            f"{model['name']}, {tally.refused:,} were refused. No prediction of this run decided anything."
        ),
        Heading("Who asked for what, and when"),
        Table(["", ""], [[name, text] for name, text in _facts(report)]),
        Heading("Results"),
        Table(["decision", "transactions", "share"], _shares(tally.decisions, tally.scored)),
        Paragraph(f"{tally.flagged:,} transactions reach the model's threshold of {model['threshold']:.4f}."),
        Heading("Scores"),
        Table(["from", "to", "transactions", ""], _bars(tally.histogram)),
        Heading("Refused rows"),
        Table(["reason", "rows", "share"], _shares(tally.reasons, tally.rows))
        if tally.reasons
        else Paragraph("There are none."),
        Heading("Digests"),
        Paragraph(
            "SHA-256; where one is said to be of parts, it is that of the parts' digests in their order."
        ),
        Points(
            [
                f"model: {model['digest']}",
                f"input ({data['digest_of']}): {data['digest']}",
                f"output ({output['digest_of']}): {output['digest']}",
            ]
        ),
    ]
    return to_html(title, elements)


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, model = report["input"], report["model"]
    passed = "passed its gate" if model["gate_passed"] else "did not pass its gate"
    return [
        ("requested by", report["requested_by"]),
        ("begun", report["started_at"]),
        ("finished", report["finished_at"]),
        ("seconds of work", f"{report['seconds']:.1f}, in {report['attempts']} attempts"),
        ("input", data["description"]),
        ("columns that were not read", ", ".join(data["ignored_columns"]) or "none"),
        ("output", report["output"]["address"]),
        ("refused rows", report["rejects"] or "none"),
        (
            "model",
            f"version {model['version']} of {model['name']}, asked for as {model['asked_for']}; it {passed}",
        ),
        ("engine", f"{report['engine']} ({report['engine_runs_on']})"),
        ("contract", report["contract"]),
        ("code", report["code_version"]),
    ]


def _shares(counts: Mapping[str, int], total: int) -> list[list[str]]:
    return [[name, f"{count:,}", f"{count / total:.2%}" if total else "–"] for name, count in counts.items()]


def _bars(histogram: list[int]) -> list[list[str]]:
    most = max(*histogram, 1)
    return [
        [f"{bin_ / BINS:.2f}", f"{(bin_ + 1) / BINS:.2f}", f"{count:,}", "█" * -(-count * _BAR // most)]
        for bin_, count in enumerate(histogram)
    ]
