"""The report for people, by Evidently: a page that loads nothing from elsewhere.

It shows a sample of the window beside rows drawn from the reference profile. The page begins with our
verdict: Evidently's own tests decide nothing.
"""

from __future__ import annotations

import os
import warnings
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_core.drift.reference import reference_rows, reference_scores
from fraud_core.profile import Profile

FILE_NAME: Final = "drift_report.html"
SCORE: Final = "score"
# Everything is part of the page; a browser refuses whatever else it would load or send.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; worker-src blob:; "
    "style-src 'unsafe-inline'; font-src data:; img-src data: blob:"
)
_FEW: Final = 20  # rows, below which a picture says nothing
_SEED: Final = 20_260_101


def make_report(
    profile: Profile, features: NDArray[np.float32], scores: NDArray[np.float64], title: str, text: str
) -> str | None:
    """The page as HTML, or None if there are too few rows to draw.

    Args:
        features, scores: of the sample, shapes [n, k] and [n].
        title, text: our verdict.
    """
    if len(features) < _FEW:
        return None
    current = _table(profile, features.astype(np.float64), scores)
    reference = _table(
        profile,
        reference_rows(profile, max(len(features), 1000), _SEED),
        reference_scores(profile, max(len(features), 1000), _SEED),
    )
    # Evidently raises an error if a column has no value at all.
    shown = [name for name in current if current[name].notna().any() and reference[name].notna().any()]
    left_out = [name for name in current if name not in shown]
    notes = [text]
    if left_out:
        notes.append(f"Not drawn, as the window or the reference has no values: {', '.join(left_out)}.")
    with warnings.catch_warnings():
        # Evidently and what it imports use deprecated parts of other libraries.
        warnings.simplefilter("ignore")
        page = _drawn(profile, current[shown], reference[shown])
    return _with_verdict(page, title, "\n".join(notes))


def _table(profile: Profile, features: NDArray[np.float64], scores: NDArray[np.float64]) -> pd.DataFrame:
    table = pd.DataFrame(features, columns=[one.name for one in profile.features])
    table[SCORE] = scores
    return table


def _drawn(profile: Profile, current: pd.DataFrame, reference: pd.DataFrame) -> str:
    os.environ["DO_NOT_TRACK"] = "1"
    # Imported here because it takes seconds, which only the report should cost.
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415
    from evidently.presets import DataDriftPreset  # noqa: PLC0415

    of_categories = {one.name for one in profile.features if one.categories is not None}
    definition: Any = DataDefinition(
        numerical_columns=[name for name in current if name not in of_categories],
        categorical_columns=[name for name in current if name in of_categories],
    )
    snapshot = Report([DataDriftPreset()]).run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    return str(snapshot.get_html_str(as_iframe=False))


def _with_verdict(page: str, title: str, text: str) -> str:
    paragraphs = "".join(f"<p style='margin:4px 0'>{escape(line)}</p>" for line in text.splitlines() if line)
    verdict = (
        "<section style='font:15px/1.5 sans-serif;max-width:1100px;margin:24px auto;padding:0 24px'>"
        f"<h1 style='font-size:22px'>{escape(title)}</h1>{paragraphs}"
        "<p style='color:#555'>Below: a sample of the window (current) beside the champion's reference "
        "profile, drawn by Evidently. Its own verdicts and thresholds do not decide.</p></section>"
    )
    head = f"<head><meta http-equiv='Content-Security-Policy' content=\"{_POLICY}\">"
    page = page.replace("<head>", head, 1)
    begin = page.index(">", page.index("<body")) + 1
    return page[:begin] + verdict + page[begin:]


def write(page: str, directory: Path) -> Path:
    """Write the page into a directory; returns its path."""
    path = directory / FILE_NAME
    path.write_text(page, encoding="utf-8")
    return path
