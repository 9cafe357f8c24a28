-- The monitor reads what was decided and what became of it, and stores what it finds.

GRANT USAGE ON SCHEMA public TO fraud_monitor;
GRANT SELECT ON transactions, predictions, labels, label_sources, stream_offsets, dead_letters, model_versions,
    drift_metrics, retraining_triggers, quality_reports, performance_metrics, airflow_task_metrics TO fraud_monitor;
GRANT INSERT ON drift_metrics, retraining_triggers, quality_reports, performance_metrics TO fraud_monitor;
GRANT EXECUTE ON FUNCTION labels_as_of(timestamptz), has_come(timestamptz) TO fraud_monitor;
