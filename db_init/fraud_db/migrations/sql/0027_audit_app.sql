-- The analysts' web app: cases are opened from decisions, and figures are kept by hour, so that a page costs the
-- same with a million predictions as with a thousand.

-- The lists, newest first.
CREATE INDEX transactions_frauds ON transactions (event_time DESC) WHERE class = 1;
CREATE INDEX labels_received_at ON labels (received_at);
-- Whose cases are open before them, and what somebody has decided lately.
CREATE INDEX cases_assignee ON cases (assignee) WHERE state = 'assigned';
CREATE INDEX cases_decided_by ON cases (decided_by, closed_at DESC) WHERE state = 'closed';
CREATE INDEX case_events_skipped ON case_events (actor, case_id, occurred_at) WHERE kind = 'skipped';

-- As before, but what is looked up is bounded by the ids: otherwise the planner may work out the truth about every
-- transaction, which takes a second with a million of them, and a person's label waits for it.
CREATE OR REPLACE FUNCTION withdraw_silence(ids text[], moment timestamptz) RETURNS void LANGUAGE sql
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
    UPDATE transactions x SET class = NULL, class_implied = NULL
    WHERE x.transaction_id = ANY (ids) AND x.class_implied
      AND NOT EXISTS (SELECT FROM labels_as_of(moment) a
                      WHERE a.transaction_id = ANY (ids) AND a.transaction_id = x.transaction_id)
$$;

-- Decisions by the hour they were made in and the version that made them, beside the truth as far as it is known.
CREATE TABLE decision_hours (
    hour timestamptz NOT NULL,
    model_version varchar(20) NOT NULL,
    decided bigint NOT NULL,
    flagged bigint NOT NULL,
    blocked bigint NOT NULL,
    amount numeric NOT NULL,
    tp bigint NOT NULL,
    fp bigint NOT NULL,
    tn bigint NOT NULL,
    fn bigint NOT NULL,
    implied bigint NOT NULL,
    tp_amount numeric NOT NULL,
    fp_amount numeric NOT NULL,
    fn_amount numeric NOT NULL,
    PRIMARY KEY (hour, model_version)
);
CREATE TABLE summarised_hours (
    hour timestamptz PRIMARY KEY,
    computed_at timestamptz NOT NULL
);
CREATE INDEX summarised_hours_computed_at ON summarised_hours (computed_at);
CREATE TABLE summary_scan (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    labels_to timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO summary_scan DEFAULT VALUES;

-- Computes `most` hours anew: those about which something has become known, then those computed the longest ago, so
-- that what changes without a trace (silence, retention) arrives as well. Gives how many hours wait that were never
-- computed.
CREATE FUNCTION summarise_decisions(most integer, settle interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    moment timestamptz;
    labels_from timestamptz;
    first_hour timestamptz;
    chosen timestamptz[];
    one timestamptz;
BEGIN
    SELECT labels_to INTO STRICT labels_from FROM summary_scan FOR UPDATE;
    moment := clock_timestamp();
    first_hour := date_trunc('hour', (SELECT min(prediction_time) FROM predictions), 'UTC');
    INSERT INTO summarised_hours
    SELECT known.hour, '-infinity' FROM generate_series(
        greatest(first_hour, date_trunc('hour', moment, 'UTC') - interval '2 years'),
        date_trunc('hour', moment, 'UTC'), interval '1 hour') AS known (hour)
    WHERE first_hour IS NOT NULL AND NOT EXISTS (SELECT FROM summarised_hours s WHERE s.hour = known.hour)
    ON CONFLICT DO NOTHING;
    IF labels_from > '-infinity' THEN
        UPDATE summarised_hours SET computed_at = '-infinity' WHERE hour IN (
            SELECT date_trunc('hour', p.prediction_time, 'UTC')
            FROM (SELECT DISTINCT transaction_id FROM labels WHERE received_at > labels_from - settle) l
            JOIN predictions p ON p.transaction_id = l.transaction_id AND p.deciding);
    END IF;
    UPDATE summary_scan SET labels_to = moment;
    chosen := ARRAY(SELECT hour FROM summarised_hours WHERE hour >= date_trunc('hour', moment - interval '10 minutes', 'UTC'))
        || ARRAY(SELECT hour FROM summarised_hours WHERE hour < date_trunc('hour', moment - interval '10 minutes', 'UTC')
                 ORDER BY computed_at, hour DESC LIMIT most);
    DELETE FROM decision_hours WHERE hour = ANY (chosen);
    FOREACH one IN ARRAY chosen LOOP
        INSERT INTO decision_hours
        SELECT one, p.model_version, count(*), count(*) FILTER (WHERE p.is_fraud_predicted),
               count(*) FILTER (WHERE p.decision = 'block'), coalesce(sum(x.amount), 0),
               count(*) FILTER (WHERE p.is_fraud_predicted AND x.class = 1),
               count(*) FILTER (WHERE p.is_fraud_predicted AND x.class = 0),
               count(*) FILTER (WHERE NOT p.is_fraud_predicted AND x.class = 0),
               count(*) FILTER (WHERE NOT p.is_fraud_predicted AND x.class = 1),
               count(*) FILTER (WHERE x.class_implied),
               coalesce(sum(x.amount) FILTER (WHERE p.is_fraud_predicted AND x.class = 1), 0),
               coalesce(sum(x.amount) FILTER (WHERE p.is_fraud_predicted AND x.class = 0), 0),
               coalesce(sum(x.amount) FILTER (WHERE NOT p.is_fraud_predicted AND x.class = 1), 0)
        FROM predictions p JOIN transactions x ON x.transaction_id = p.transaction_id
        WHERE p.deciding AND p.prediction_time >= one AND p.prediction_time < one + interval '1 hour'
        GROUP BY p.model_version;
    END LOOP;
    UPDATE summarised_hours SET computed_at = moment WHERE hour = ANY (chosen);
    RETURN (SELECT count(*) FROM summarised_hours WHERE computed_at = '-infinity');
END $$;

GRANT USAGE ON SCHEMA public TO fraud_audit;
GRANT SELECT ON transactions, predictions, labels, label_sources, deployments, deployment_events, alerts,
    decision_hours, summarised_hours, case_events, cases, people, sessions TO fraud_audit;
GRANT INSERT ON labels, cases, case_events, people, sessions TO fraud_audit;
GRANT UPDATE ON cases, people, sessions TO fraud_audit;
GRANT DELETE ON sessions TO fraud_audit;
GRANT EXECUTE ON FUNCTION apply_labels(text[]), audit_append(text, text, text, jsonb),
    open_cases(interval, interval, interval, double precision, interval, interval, integer),
    open_disputed_cases(interval, integer), summarise_decisions(integer, interval) TO fraud_audit;
GRANT SELECT ON decision_hours, summarised_hours, summary_scan TO fraud_readonly;
