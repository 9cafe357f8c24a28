-- The stream's position, what could not be processed, models, and what monitoring finds.

CREATE TABLE stream_offsets (
    topic varchar(249) NOT NULL,
    partition integer NOT NULL CHECK (partition >= 0),
    topic_id varchar(40) NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic varchar(249) NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    record_key bytea,
    payload bytea CONSTRAINT dead_letters_payload CHECK (octet_length(payload) <= 65536),
    payload_bytes integer NOT NULL,
    reason varchar(40) NOT NULL,
    detail text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letters_once UNIQUE (topic, partition, record_offset)
);
CREATE INDEX dead_letters_created_at ON dead_letters (created_at);

CREATE TABLE model_versions (
    name varchar(64) NOT NULL,
    version varchar(20) NOT NULL,
    mlflow_run_id varchar(64),
    contract varchar(50) NOT NULL,
    digest char(64) NOT NULL CONSTRAINT model_versions_digest CHECK (digest ~ '^[0-9a-f]{64}$'),
    gate_policy varchar(50) NOT NULL,
    gate_passed boolean NOT NULL,
    gate_outcome jsonb NOT NULL,
    metrics jsonb NOT NULL,
    threshold double precision NOT NULL CHECK (threshold >= 0 AND threshold <= 1),
    block_threshold double precision NOT NULL CHECK (block_threshold >= threshold AND block_threshold < 'Infinity'),
    data_from timestamptz,
    data_to timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version)
);

CREATE TABLE drift_metrics (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    detected_at timestamptz NOT NULL DEFAULT now(),
    run_id varchar(100),
    contract varchar(50) NOT NULL,
    model_version varchar(20),
    kind varchar(10) NOT NULL CHECK (kind IN ('data', 'target', 'concept')),
    feature varchar(64),
    metric varchar(40) NOT NULL,
    value double precision CHECK (value > '-Infinity' AND value < 'Infinity'),
    threshold double precision,
    severity varchar(12) NOT NULL CHECK (severity IN ('none', 'medium', 'high', 'critical', 'insufficient')),
    window_from timestamptz,
    window_to timestamptz,
    rows bigint,
    labels bigint,
    details jsonb
);
CREATE INDEX drift_metrics_detected_at ON drift_metrics (detected_at);

CREATE TABLE retraining_triggers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    triggered_at timestamptz NOT NULL DEFAULT now(),
    source varchar(50) NOT NULL,
    severity varchar(12) NOT NULL,
    reason text NOT NULL,
    state varchar(12) NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'running', 'done', 'withdrawn')),
    run_id varchar(100),
    handled_at timestamptz,
    details jsonb
);
CREATE INDEX retraining_triggers_triggered_at ON retraining_triggers (triggered_at);

CREATE TABLE airflow_task_metrics (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dag_id varchar(250) NOT NULL,
    task_id varchar(250) NOT NULL,
    run_id varchar(250) NOT NULL,
    try_number integer NOT NULL DEFAULT 1,
    state varchar(20) NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    duration_seconds double precision CHECK (duration_seconds >= 0 AND duration_seconds < 'Infinity'),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    details jsonb,
    CONSTRAINT airflow_task_metrics_once UNIQUE (dag_id, task_id, run_id, try_number)
);

CREATE TABLE performance_metrics (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    measured_at timestamptz NOT NULL DEFAULT now(),
    run_id varchar(100),
    contract varchar(50) NOT NULL,
    model_version varchar(20),
    metric varchar(40) NOT NULL,
    value double precision CHECK (value > '-Infinity' AND value < 'Infinity'),
    window_from timestamptz,
    window_to timestamptz,
    rows bigint,
    labels bigint,
    details jsonb
);
CREATE INDEX performance_metrics_measured_at ON performance_metrics (metric, measured_at);

CREATE TABLE quality_reports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    checked_at timestamptz NOT NULL DEFAULT now(),
    run_id varchar(100),
    contract varchar(50) NOT NULL,
    check_name varchar(64) NOT NULL,
    status varchar(12) NOT NULL CHECK (status IN ('passed', 'failed', 'insufficient')),
    value double precision CHECK (value > '-Infinity' AND value < 'Infinity'),
    bound double precision,
    window_from timestamptz,
    window_to timestamptz,
    rows bigint,
    details jsonb
);
CREATE INDEX quality_reports_checked_at ON quality_reports (checked_at);

CREATE TABLE deployments (
    deployment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name varchar(64) NOT NULL,
    version varchar(20) NOT NULL,
    previous_version varchar(20),
    mode varchar(20) NOT NULL,
    state varchar(20) NOT NULL,
    traffic_percent smallint NOT NULL DEFAULT 0 CHECK (traffic_percent BETWEEN 0 AND 100),
    salt varchar(64),
    run_id varchar(100),
    reason text,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
-- One release at a time for a model.
CREATE UNIQUE INDEX deployments_running ON deployments (name) WHERE ended_at IS NULL;

CREATE TABLE deployment_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id bigint NOT NULL REFERENCES deployments (deployment_id),
    occurred_at timestamptz NOT NULL DEFAULT now(),
    kind varchar(40) NOT NULL,
    details jsonb
);
CREATE INDEX deployment_events_deployment ON deployment_events (deployment_id);

CREATE TABLE alerts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    raised_at timestamptz NOT NULL DEFAULT now(),
    source varchar(50) NOT NULL,
    severity varchar(12) NOT NULL,
    title varchar(200) NOT NULL,
    details jsonb,
    dedupe_key varchar(200) UNIQUE,
    sent_at timestamptz
);
CREATE INDEX alerts_raised_at ON alerts (raised_at);

-- What analysts work on.
CREATE TABLE cases (
    case_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id varchar(50) NOT NULL UNIQUE REFERENCES transactions (transaction_id),
    state varchar(20) NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'assigned', 'closed')),
    assignee varchar(100),
    notes text,
    decision smallint CHECK (decision IN (0, 1)),
    opened_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
CREATE INDEX cases_state ON cases (state, opened_at);
