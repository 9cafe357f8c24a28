-- What the monitor finds of data quality and of a model's performance, one row for a check or a figure.

-- Warned is only shown. Expected: insufficient, and nothing but time is needed. A run that is repeated replaces its rows.
ALTER TABLE quality_reports
    DROP CONSTRAINT quality_reports_status_check,
    ADD CONSTRAINT quality_reports_status_check CHECK (status IN ('passed', 'warned', 'failed', 'insufficient')),
    ADD COLUMN severity varchar(12) NOT NULL DEFAULT 'medium' CHECK (severity IN ('medium', 'high')),
    ADD COLUMN sentence text NOT NULL DEFAULT '',
    ADD COLUMN expected boolean NOT NULL DEFAULT false,
    ALTER COLUMN run_id TYPE varchar(250),
    ADD CONSTRAINT quality_reports_once UNIQUE (contract, run_id, check_name);
CREATE INDEX quality_reports_check ON quality_reports (contract, check_name, checked_at);

-- Low and high: the 95 % interval. Part: an amount band, a decision or an engine; empty for the whole.
ALTER TABLE performance_metrics
    ADD COLUMN part varchar(40) NOT NULL DEFAULT '',
    ADD COLUMN low double precision CHECK (low > '-Infinity' AND low < 'Infinity'),
    ADD COLUMN high double precision CHECK (high > '-Infinity' AND high < 'Infinity'),
    ALTER COLUMN run_id TYPE varchar(250),
    ADD CONSTRAINT performance_metrics_once UNIQUE (contract, run_id, model_version, metric, part);

-- Runs of the latest days are compared with earlier ones.
CREATE INDEX airflow_task_metrics_ended_at ON airflow_task_metrics (ended_at);

GRANT UPDATE (checked_at, status, severity, sentence, expected, value, bound, window_from, window_to, rows, details)
    ON quality_reports TO fraud_monitor;
GRANT UPDATE (measured_at, value, low, high, window_from, window_to, rows, labels, details)
    ON performance_metrics TO fraud_monitor;
