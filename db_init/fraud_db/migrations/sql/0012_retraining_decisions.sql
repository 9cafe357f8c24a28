-- Each decision whether to train is a row of its own, with the source 'decision': 'declined' if no model is
-- trained, else 'running', then 'done' once a version was registered, or 'withdrawn' if the run failed.
-- A trigger is taken by the run that a decision starts, and is 'done' once that run has registered a version,
-- also one that failed its gate. If the run fails before, the trigger is 'open' again.
ALTER TABLE retraining_triggers
    ADD COLUMN dag_id varchar(250),
    ADD COLUMN taken_at timestamptz,
    ALTER COLUMN run_id TYPE varchar(250),
    DROP CONSTRAINT retraining_triggers_state_check,
    ADD CONSTRAINT retraining_triggers_state_check
        CHECK (state IN ('open', 'running', 'done', 'withdrawn', 'declined')),
    ADD CONSTRAINT retraining_triggers_taken
        CHECK (state <> 'running' OR (dag_id IS NOT NULL AND run_id IS NOT NULL AND taken_at IS NOT NULL));
CREATE INDEX retraining_triggers_unfinished ON retraining_triggers (state) WHERE state IN ('open', 'running');

-- The cut-off for the labels that the version was trained with; null if it was not trained with this
-- platform's labels. A label that was not mature then is new.
ALTER TABLE model_versions ADD COLUMN labels_as_of timestamptz CHECK (isfinite(labels_as_of));
UPDATE model_versions SET labels_as_of = created_at;

GRANT SELECT, INSERT ON retraining_triggers TO fraud_trainer;
GRANT SELECT ON retraining_triggers TO fraud_api;
GRANT UPDATE (state, dag_id, run_id, taken_at, handled_at, reason, triggered_at, details)
    ON retraining_triggers TO fraud_trainer;
