-- What dashboards show: what monitoring found, and no transaction, no prediction and no card.

GRANT USAGE ON SCHEMA public TO fraud_grafana;
GRANT SELECT ON drift_metrics, quality_reports, performance_metrics, performance_estimates, retraining_triggers,
    airflow_task_metrics, alerts, model_versions, model_alias_history TO fraud_grafana;
