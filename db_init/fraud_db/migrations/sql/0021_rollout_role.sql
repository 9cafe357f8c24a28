-- A release is validated on stored transactions and mature labels; it is recorded by the API, so its job writes nothing.

GRANT USAGE ON SCHEMA public TO fraud_rollout;
GRANT SELECT ON transactions, predictions, labels, label_sources, model_versions TO fraud_rollout;
GRANT EXECUTE ON FUNCTION labels_as_of(timestamptz), has_come(timestamptz) TO fraud_rollout;
