"""What the person waiting sees."""

import io
import re

import pytest

from fraud_embedded.progress import Progress
from fraud_embedded.summary import Summary, render


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_each_step_has_plain_lines_with_times() -> None:
    out = io.StringIO()
    with Progress(out) as progress, progress.step("start postgres"):
        pass
    lines = out.getvalue().splitlines()
    assert re.fullmatch(r"\[ +0\.0 s\] start postgres …", lines[0])
    assert re.fullmatch(r"\[ +0\.0 s\] start postgres done \(0\.0 s\)", lines[1])
    assert "\x1b" not in out.getvalue()


def test_a_failed_step_says_so() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="boom"), Progress(out) as progress, progress.step("start broker"):
        raise ValueError("boom")
    assert "start broker failed" in out.getvalue()


def test_on_a_terminal_the_running_steps_are_wiped_at_the_end() -> None:
    out = Terminal()
    with Progress(out) as progress, progress.step("start mlflow"):
        pass
    assert out.getvalue().endswith("\r\x1b[K")


def test_closed_it_is_silent() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress.close()
    progress.say("too late")
    assert out.getvalue() == ""


def test_the_summary_says_what_it_is_worth() -> None:
    figures = {"recall": 0.98, "precision": 0.9, "fpr": 0.003}
    summary = Summary(
        urls={"api": "http://127.0.0.1:8000/docs"},
        credentials="/somewhere/.env",
        transactions=120_050,
        predictions=50,
        frauds_predicted=3,
        labels=120_000,
        dead_letters=0,
        live={"tp": 3, "fp": 0, "tn": 47, "fn": 0, "recall": 1.0, "precision": 1.0, "fpr": 0.0},
        latency_ms={"count": 50, "p50": None, "p99": None},
        model={"version": "1", "gate_policy": "specification", "gate_passed": True, "metrics": figures},
        optimum=figures,
        dags={"00_x": {"runs": {"success": 3}, "median_seconds": 2.5, "median_period": 5.0}},
        seconds={"summary": 61.2},
    )
    text = render(summary)
    assert "The data is simulated" in text
    assert "120,050" in text
    assert "3 success, 2.5 s a run, one every 5.0 s" in text
    assert "best possible" in text
    assert "98.00 %" in text
    assert "/somewhere/.env" in text
