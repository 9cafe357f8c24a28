-- One log-in role for each service, with the rights it needs. `python -m fraud_db bootstrap` makes the roles.

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO fraud_producer, fraud_streaming, fraud_api, fraud_trainer, fraud_readonly;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- The producer writes history directly; live transactions it only sends.
GRANT SELECT, INSERT ON transactions, labels TO fraud_producer;
GRANT SELECT ON label_sources TO fraud_producer;
GRANT SELECT, INSERT, UPDATE ON simulated_labels, simulations TO fraud_producer;

GRANT SELECT, INSERT ON transactions, predictions, labels, dead_letters TO fraud_streaming;
GRANT SELECT, INSERT, UPDATE ON stream_offsets TO fraud_streaming;
GRANT SELECT ON label_sources TO fraud_streaming;

GRANT SELECT, INSERT ON transactions, predictions, shadow_predictions TO fraud_api;
GRANT SELECT, INSERT, UPDATE ON clients, signing_keys TO fraud_api;
GRANT SELECT, INSERT, DELETE ON revoked_tokens TO fraud_api;
GRANT SELECT ON model_versions TO fraud_api;

GRANT SELECT ON transactions, predictions, labels, label_sources, simulations TO fraud_trainer;
GRANT SELECT, INSERT ON model_versions TO fraud_trainer;

GRANT SELECT ON transactions, predictions, shadow_predictions, labels, label_sources, simulated_labels, simulations,
    stream_offsets, dead_letters, model_versions, drift_metrics, retraining_triggers, airflow_task_metrics,
    performance_metrics, quality_reports, deployments, deployment_events, alerts, cases, audit_log
    TO fraud_readonly;

GRANT EXECUTE ON FUNCTION labels_as_of(timestamptz) TO fraud_trainer, fraud_readonly;
GRANT EXECUTE ON FUNCTION apply_labels(text[]) TO fraud_producer, fraud_streaming, fraud_api;
GRANT EXECUTE ON FUNCTION audit_append(text, text, text, jsonb)
    TO fraud_producer, fraud_streaming, fraud_api, fraud_trainer;
GRANT EXECUTE ON FUNCTION audit_verify() TO fraud_readonly;
