-- What was paid, and what was said about it.

CREATE TABLE transactions (
    transaction_id varchar(50) PRIMARY KEY CHECK (transaction_id <> ''),
    time numeric(10, 2),
    v1 numeric(10, 6), v2 numeric(10, 6), v3 numeric(10, 6), v4 numeric(10, 6),
    v5 numeric(10, 6), v6 numeric(10, 6), v7 numeric(10, 6), v8 numeric(10, 6),
    v9 numeric(10, 6), v10 numeric(10, 6), v11 numeric(10, 6), v12 numeric(10, 6),
    v13 numeric(10, 6), v14 numeric(10, 6), v15 numeric(10, 6), v16 numeric(10, 6),
    v17 numeric(10, 6), v18 numeric(10, 6), v19 numeric(10, 6), v20 numeric(10, 6),
    v21 numeric(10, 6), v22 numeric(10, 6), v23 numeric(10, 6), v24 numeric(10, 6),
    v25 numeric(10, 6), v26 numeric(10, 6), v27 numeric(10, 6), v28 numeric(10, 6),
    amount numeric(15, 2),
    class integer CHECK (class IN (0, 1)),
    source varchar(50) NOT NULL,
    ingestion_timestamp timestamptz NOT NULL DEFAULT now(),
    event_time timestamptz NOT NULL CHECK (isfinite(event_time)),
    contract varchar(50) NOT NULL,
    card_id varchar(64),
    merchant_id varchar(64),
    attributes jsonb,
    -- numeric accepts NaN, which sorts above every number; greatest() ignores nulls.
    CONSTRAINT transactions_no_nan CHECK (greatest(
        time, amount, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14,
        v15, v16, v17, v18, v19, v20, v21, v22, v23, v24, v25, v26, v27, v28) < 'NaN')
);
CREATE INDEX transactions_event_time ON transactions (event_time);
CREATE INDEX transactions_ingestion_timestamp ON transactions (ingestion_timestamp);
CREATE INDEX transactions_card ON transactions (card_id, event_time) WHERE card_id IS NOT NULL;

CREATE TABLE predictions (
    prediction_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id varchar(50) NOT NULL REFERENCES transactions (transaction_id),
    fraud_score numeric(5, 4) NOT NULL,
    is_fraud_predicted boolean NOT NULL,
    model_version varchar(20) NOT NULL,
    prediction_time timestamptz NOT NULL DEFAULT now(),
    score double precision NOT NULL CONSTRAINT predictions_score CHECK (score >= 0 AND score <= 1),
    role varchar(20) NOT NULL DEFAULT 'champion',
    run_id varchar(100),
    decision varchar(10) NOT NULL CONSTRAINT predictions_decision CHECK (decision IN ('approve', 'review', 'block')),
    deciding boolean NOT NULL,
    reasons jsonb,
    rules_fired text[] NOT NULL DEFAULT '{}',
    feature_vector real[] NOT NULL,
    engine varchar(40) NOT NULL,
    policy_version varchar(20) NOT NULL DEFAULT '0',
    latency_ms real,
    traceparent varchar(60),
    CONSTRAINT predictions_fraud_score CHECK (fraud_score >= 0 AND fraud_score <= 1),
    -- NaN stands for an optional field that was missing.
    CONSTRAINT predictions_feature_vector
        CHECK ('Infinity' <> ALL (feature_vector) AND '-Infinity' <> ALL (feature_vector))
);
-- Exactly one prediction decides: the first.
CREATE UNIQUE INDEX predictions_deciding ON predictions (transaction_id) WHERE deciding;
-- A batch run repeated says the same thing once.
CREATE UNIQUE INDEX predictions_run ON predictions (run_id, role, transaction_id) WHERE run_id IS NOT NULL;
CREATE INDEX predictions_prediction_time ON predictions (prediction_time);

-- What a model that does not decide would have said. No foreign key: it is written apart.
CREATE TABLE shadow_predictions (
    prediction_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id varchar(50) NOT NULL,
    fraud_score numeric(5, 4) NOT NULL,
    is_fraud_predicted boolean NOT NULL,
    model_version varchar(20) NOT NULL,
    prediction_time timestamptz NOT NULL DEFAULT now(),
    score double precision NOT NULL CONSTRAINT shadow_predictions_score CHECK (score >= 0 AND score <= 1),
    role varchar(20) NOT NULL DEFAULT 'shadow',
    run_id varchar(100),
    decision varchar(10) NOT NULL
        CONSTRAINT shadow_predictions_decision CHECK (decision IN ('approve', 'review', 'block')),
    feature_vector real[],
    engine varchar(40) NOT NULL,
    policy_version varchar(20) NOT NULL DEFAULT '0',
    latency_ms real,
    traceparent varchar(60),
    CONSTRAINT shadow_predictions_fraud_score CHECK (fraud_score >= 0 AND fraud_score <= 1)
);
CREATE UNIQUE INDEX shadow_predictions_once ON shadow_predictions (transaction_id, model_version);
CREATE INDEX shadow_predictions_prediction_time ON shadow_predictions (prediction_time);
