-- Every alert and every task run of Airflow is recorded by Airflow's watch, through two functions; and what a
-- short job found is exported from a view, because the job has ended when Prometheus asks.

ALTER TABLE alerts
    ADD COLUMN occurrences integer NOT NULL DEFAULT 1 CHECK (occurrences > 0),
    ADD COLUMN resolved_at timestamptz,
    ADD CONSTRAINT alerts_severity CHECK (severity IN ('medium', 'high', 'critical'));
CREATE INDEX alerts_open ON alerts (severity) WHERE resolved_at IS NULL;

-- [{dedupe_key, source, severity, title, raised_at, sent_at, resolved_at, occurrences, details}, …]: one row for
-- each incident, brought up to date. Gives how many rows changed. An incident that begins ends an earlier one of
-- the same key, whose end was not seen.
CREATE FUNCTION record_alerts(batch jsonb) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    changed integer;
BEGIN
    INSERT INTO alerts AS known
        (dedupe_key, source, severity, title, raised_at, sent_at, resolved_at, occurrences, details)
    SELECT dedupe_key, source, severity, left(title, 200), raised_at, sent_at, resolved_at, occurrences, details
    FROM jsonb_to_recordset(batch) AS incident (dedupe_key text, source text, severity text, title text,
        raised_at timestamptz, sent_at timestamptz, resolved_at timestamptz, occurrences integer, details jsonb)
    ON CONFLICT (dedupe_key) DO UPDATE SET
        severity = excluded.severity,
        title = excluded.title,
        sent_at = coalesce(known.sent_at, excluded.sent_at),
        resolved_at = excluded.resolved_at,
        occurrences = excluded.occurrences,
        details = excluded.details
    WHERE (known.severity, known.title, known.sent_at, known.resolved_at, known.occurrences, known.details)
        IS DISTINCT FROM (excluded.severity, excluded.title, coalesce(known.sent_at, excluded.sent_at),
                          excluded.resolved_at, excluded.occurrences, excluded.details);
    GET DIAGNOSTICS changed = ROW_COUNT;
    UPDATE alerts AS earlier SET resolved_at = later.raised_at
    FROM alerts AS later
    WHERE earlier.resolved_at IS NULL AND earlier.source = later.source
        AND earlier.details ->> 'key' = later.details ->> 'key' AND later.raised_at > earlier.raised_at
        AND later.dedupe_key IN (SELECT one ->> 'dedupe_key' FROM jsonb_array_elements(batch) AS one);
    RETURN changed;
END
$$;

-- [{dag_id, task_id, run_id, try_number, state, started_at, ended_at, duration_seconds, details}, …]: what is
-- known already is left as it is. Gives how many are new.
CREATE FUNCTION record_task_runs(batch jsonb) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    added integer;
BEGIN
    INSERT INTO airflow_task_metrics
        (dag_id, task_id, run_id, try_number, state, started_at, ended_at, duration_seconds, details)
    SELECT dag_id, task_id, run_id, try_number, state, started_at, ended_at, greatest(duration_seconds, 0), details
    FROM jsonb_to_recordset(batch) AS task (dag_id text, task_id text, run_id text, try_number integer, state text,
        started_at timestamptz, ended_at timestamptz, duration_seconds double precision, details jsonb)
    ON CONFLICT ON CONSTRAINT airflow_task_metrics_once DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END
$$;

-- Up to when task runs are recorded; NULL if there is none.
CREATE FUNCTION task_runs_recorded_until() RETURNS timestamptz
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
SELECT max(ended_at) FROM airflow_task_metrics
$$;

-- One row a series: the metric's name, its labels, its value. The names are in config/metrics.py.
CREATE VIEW platform_metrics (metric, labels, value) AS
WITH drift AS (
    SELECT DISTINCT ON (contract, kind, feature, metric, window_name) * FROM drift_metrics
    WHERE detected_at > now() - interval '2 days'
    ORDER BY contract, kind, feature, metric, window_name, detected_at DESC, id DESC
), quality AS (
    SELECT DISTINCT ON (contract, check_name) * FROM quality_reports
    WHERE checked_at > now() - interval '2 days' ORDER BY contract, check_name, checked_at DESC, id DESC
), performance AS (
    SELECT DISTINCT ON (contract, metric) * FROM performance_metrics
    WHERE part = '' AND measured_at > now() - interval '2 days'
    ORDER BY contract, metric, measured_at DESC, id DESC
), severities (severity) AS (
    VALUES ('medium'), ('high'), ('critical')
)
SELECT 'fraud_drift_value', jsonb_build_object('contract', contract, 'kind', kind, 'feature', coalesce(feature, ''),
    'metric', metric), max(value) FROM drift WHERE value IS NOT NULL GROUP BY contract, kind, feature, metric
UNION ALL SELECT 'fraud_drift_severity', jsonb_build_object('contract', contract, 'kind', kind),
    max(array_position(ARRAY['insufficient', 'none', 'medium', 'high', 'critical'], severity::text)) - 2
    FROM drift GROUP BY contract, kind
UNION ALL SELECT 'fraud_drift_checked_timestamp_seconds', jsonb_build_object('contract', contract),
    extract(epoch FROM max(detected_at)) FROM drift GROUP BY contract
UNION ALL SELECT 'fraud_quality_status', jsonb_build_object('contract', contract, 'check', check_name),
    array_position(ARRAY['insufficient', 'passed', 'warned', 'failed'], status::text) - 2 FROM quality
UNION ALL SELECT 'fraud_quality_checked_timestamp_seconds', jsonb_build_object('contract', contract),
    extract(epoch FROM max(checked_at)) FROM quality GROUP BY contract
UNION ALL SELECT 'fraud_performance_value', jsonb_build_object('contract', contract, 'metric', metric), value
    FROM performance WHERE value IS NOT NULL
UNION ALL SELECT 'fraud_performance_measured_timestamp_seconds', jsonb_build_object('contract', contract),
    extract(epoch FROM max(measured_at)) FROM performance GROUP BY contract
UNION ALL SELECT 'fraud_alert_outbox_waiting', '{}', count(*) FROM alert_outbox
UNION ALL SELECT 'fraud_dead_letters_stored', '{}', count(*) FROM dead_letters
UNION ALL SELECT 'fraud_retraining_triggers_open', '{}', count(*) FROM retraining_triggers WHERE state = 'open'
UNION ALL SELECT 'fraud_model_versions', jsonb_build_object('gate', gate.name), count(version)
    FROM (VALUES ('passed', true), ('failed', false)) AS gate (name, passed)
    LEFT JOIN model_versions ON gate_passed = gate.passed GROUP BY gate.name
UNION ALL SELECT 'fraud_alerts_raised_total', jsonb_build_object('severity', severities.severity), count(alerts.id)
    FROM severities LEFT JOIN alerts USING (severity) GROUP BY severities.severity
UNION ALL SELECT 'fraud_alerts_open', jsonb_build_object('severity', severities.severity), count(alerts.id)
    FROM severities LEFT JOIN alerts ON alerts.severity = severities.severity AND resolved_at IS NULL
    GROUP BY severities.severity
UNION ALL SELECT 'fraud_database_bytes', '{}', pg_database_size(current_database())
UNION ALL SELECT 'fraud_database_connections', '{}', sum(numbackends) FROM pg_stat_database
UNION ALL SELECT 'fraud_database_connections_max', '{}', current_setting('max_connections')::double precision
UNION ALL SELECT 'fraud_database_deadlocks_total', '{}', deadlocks FROM pg_stat_database
    WHERE datname = current_database();

GRANT USAGE ON SCHEMA public TO fraud_watch;
GRANT EXECUTE ON FUNCTION record_alerts(jsonb), record_task_runs(jsonb), task_runs_recorded_until() TO fraud_watch;
GRANT SELECT ON platform_metrics TO fraud_watch, fraud_readonly;
-- The API measures how far the stream is behind: bounded runs end before Prometheus could ask them.
GRANT SELECT ON stream_offsets TO fraud_api;
