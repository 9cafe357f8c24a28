-- Batch prediction reads what is stored and the record of each model version, and stores predictions that decide nothing.

GRANT USAGE ON SCHEMA public TO fraud_batch;
GRANT SELECT ON transactions, predictions, model_versions TO fraud_batch;
