-- The monitor reads what was decided and what became of it, and stores what it finds.

-- A run that is repeated replaces its rows. The verdict of a run is a row of its own.
ALTER TABLE drift_metrics
    ADD COLUMN dag_id varchar(250),
    ADD COLUMN window_name varchar(20),
    ALTER COLUMN run_id TYPE varchar(250),
    DROP CONSTRAINT drift_metrics_kind_check,
    ADD CONSTRAINT drift_metrics_kind_check CHECK (kind IN ('data', 'target', 'concept', 'verdict'));
CREATE UNIQUE INDEX drift_metrics_once ON drift_metrics
    (dag_id, run_id, metric, coalesce(feature, ''), coalesce(window_name, '')) WHERE dag_id IS NOT NULL;
CREATE INDEX drift_metrics_by_feature ON drift_metrics (feature, detected_at) WHERE metric = 'psi';

-- What the performance was estimated to be without labels, and what it was once they were mature.
-- compared_at is set with the truth; a window whose labels never become complete keeps a null truth.
CREATE TABLE performance_estimates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT now(),
    dag_id varchar(250) NOT NULL,
    run_id varchar(250) NOT NULL,
    contract varchar(50) NOT NULL,
    model_version varchar(20) NOT NULL,
    window_from timestamptz NOT NULL,
    window_to timestamptz NOT NULL CHECK (window_to > window_from),
    metric varchar(40) NOT NULL,
    value double precision NOT NULL CHECK (value >= 0 AND value <= 1),
    low double precision NOT NULL CHECK (low >= 0 AND low <= value),
    high double precision NOT NULL CHECK (high <= 1 AND high >= value),
    rows bigint NOT NULL CHECK (rows > 0),
    trusted boolean NOT NULL,
    compared_at timestamptz,
    truth double precision CHECK (truth >= 0 AND truth <= 1),
    labels bigint CHECK (labels >= 0),
    CONSTRAINT performance_estimates_once UNIQUE (dag_id, run_id, metric)
);
CREATE INDEX performance_estimates_open ON performance_estimates (window_to) WHERE compared_at IS NULL;

-- The drift that was switched on in the simulator, and when; without kinds it was switched off. A run drifts as was
-- switched on at its event time, so that a retried run makes the same transactions.
CREATE TABLE simulated_drift (
    switched_at timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    kinds text[] NOT NULL
);

GRANT USAGE ON SCHEMA public TO fraud_monitor;
GRANT SELECT ON transactions, predictions, labels, label_sources, stream_offsets, dead_letters, model_versions,
    drift_metrics, retraining_triggers, quality_reports, performance_metrics, airflow_task_metrics,
    performance_estimates TO fraud_monitor;
GRANT INSERT ON drift_metrics, retraining_triggers, quality_reports, performance_metrics, performance_estimates
    TO fraud_monitor;
GRANT UPDATE ON drift_metrics TO fraud_monitor;
GRANT UPDATE (made_at, model_version, window_from, window_to, value, low, high, rows, trusted, compared_at, truth, labels)
    ON performance_estimates TO fraud_monitor;
GRANT EXECUTE ON FUNCTION labels_as_of(timestamptz), has_come(timestamptz) TO fraud_monitor;
GRANT SELECT, INSERT ON simulated_drift TO fraud_producer;
GRANT SELECT ON performance_estimates, simulated_drift TO fraud_readonly;
