-- A release gives a model version a share of the traffic, watches it and decides. The API moves it from state to
-- state by compare-and-set; `fraud_core.canary.lifecycle` says which follow.

ALTER TABLE deployments
    ADD COLUMN stage_started_at timestamptz,
    ADD COLUMN extensions smallint NOT NULL DEFAULT 0 CHECK (extensions >= 0),
    ADD COLUMN findings jsonb,
    ADD COLUMN paired jsonb,
    ADD CONSTRAINT deployments_state CHECK (state IN ('validating', 'validated', 'canary', 'widened', 'promoted',
        'refused', 'rolled_back', 'withdrawn', 'aborted')),
    ADD CONSTRAINT deployments_ended CHECK ((ended_at IS NULL)
        = (state IN ('validating', 'validated', 'canary', 'widened')));
-- A retried run finds its release instead of opening a second one.
CREATE UNIQUE INDEX deployments_run ON deployments (name, run_id) WHERE run_id IS NOT NULL;

-- What each arm did, by replica and minute: sums of what every replica adds.
CREATE TABLE release_counts (
    deployment_id bigint NOT NULL REFERENCES deployments (deployment_id),
    traffic_percent smallint NOT NULL,
    arm varchar(10) NOT NULL CHECK (arm IN ('control', 'canary')),
    replica varchar(64) NOT NULL,
    minute timestamptz NOT NULL,
    calls bigint NOT NULL,
    errors bigint NOT NULL,
    slow bigint NOT NULL,
    rows bigint NOT NULL,
    flagged bigint NOT NULL,
    scores bigint[] NOT NULL,
    PRIMARY KEY (deployment_id, traffic_percent, arm, replica, minute)
);

GRANT SELECT, INSERT, UPDATE ON deployments, release_counts TO fraud_api;
GRANT SELECT, INSERT ON deployment_events TO fraud_api;
GRANT SELECT ON release_counts TO fraud_readonly;
GRANT SELECT ON deployments, deployment_events, release_counts TO fraud_grafana;
