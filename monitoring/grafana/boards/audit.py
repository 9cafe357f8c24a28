"""The analysts' web app: does it answer, and is the queue worked off?"""

from __future__ import annotations

from typing import Final

from monitoring.grafana.boards.question import YES_NO, Board, Question, View, above, below, prom

AUDIT: Final = Board(
    "audit",
    "Fraud detection – analysts' web app",
    "Does the analysts' web app answer quickly, and do people work cases off as fast as they are opened?",
    (
        Question(
            "Database",
            "Does the web app reach the database?",
            prom("min(fraud_audit_database_up)"),
            names=YES_NO,
            levels=below(1),
        ),
        Question(
            "p95 of a label",
            "Is the next case there at once?",
            prom(
                "histogram_quantile(0.95, sum by (le) (rate("
                'fraud_audit_request_seconds_bucket{route="/manual_labeling/{case_id}"}[15m])))'
            ),
            unit="s",
            levels=above(0.15, 0.3),
            missing="nobody labels",
        ),
        Question(
            "Cases opened and decided",
            "Do people keep up with what is flagged?",
            (
                *prom("sum(rate(fraud_audit_cases_opened_total[$__rate_interval])) * 3600", "opened an hour"),
                *prom("sum(rate(fraud_audit_labels_total[$__rate_interval])) * 3600", "decided an hour"),
            ),
            View.LINES,
        ),
        Question(
            "Requests",
            "Which answers do people get?",
            prom("sum by (status) (rate(fraud_audit_requests_total[$__rate_interval]))", "{{status}}"),
            View.LINES,
            unit="reqps",
        ),
        Question(
            "Log-ins",
            "Does somebody guess passwords?",
            prom("sum by (outcome) (increase(fraud_audit_logins_total[$__rate_interval]))", "{{outcome}}"),
            View.LINES,
        ),
    ),
)
