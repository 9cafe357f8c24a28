-- Decisions that wait to be published on the alerts topic. A row is written in the transaction that stores the
-- decision and removed in the one that has published it, so nothing is announced that was not stored, nor forgotten.

CREATE TABLE alert_outbox (
    transaction_id varchar(50) PRIMARY KEY REFERENCES transactions (transaction_id),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX alert_outbox_created_at ON alert_outbox (created_at, transaction_id);

GRANT INSERT ON alert_outbox TO fraud_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON alert_outbox TO fraud_streaming;
GRANT SELECT ON alert_outbox TO fraud_readonly;
