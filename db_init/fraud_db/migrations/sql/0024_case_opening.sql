-- Cases are opened from decisions.

CREATE INDEX predictions_cases ON predictions (prediction_id) WHERE deciding AND decision <> 'approve';

-- How far predictions were searched for cases. Ids are assigned before their transaction commits, so that what is
-- below the highest known id may still appear: `done_to` follows `seen_to` only after `settle`.
-- The salt is the installation's own: nobody can choose ids that are never drawn.
CREATE TABLE case_scan (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    salt text NOT NULL DEFAULT gen_random_uuid()::text,
    done_to bigint NOT NULL DEFAULT 0,
    seen_to bigint NOT NULL DEFAULT 0,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO case_scan DEFAULT VALUES;

-- The chance of a transaction in [0, 1), the same at every call.
CREATE FUNCTION sampling_position(salt text, id text) RETURNS double precision LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT ('x' || left(md5(salt || id), 8))::bit(32)::bigint / 4294967296.0
$$;

-- Opens the cases of new decisions: each review and block about which nobody has reported the truth, and a random
-- share of what was approved. At most `most` of either kind at a call; gives how many were opened. Safe to call at
-- any time, by several at once.
CREATE FUNCTION open_cases(block_due interval, review_due interval, sampled_due interval, share double precision,
    max_age interval, settle interval, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    scan case_scan;
    moment timestamptz;
    flagged integer;
    sampled integer := 0;
    last_id bigint;
BEGIN
    SELECT * INTO STRICT scan FROM case_scan FOR UPDATE;
    -- Not before the wait for the row.
    moment := clock_timestamp();
    WITH opened AS (
        INSERT INTO cases (transaction_id, origin, priority, due_at)
        SELECT p.transaction_id, 'flagged', p.score * coalesce(x.amount, 1),
               p.prediction_time + CASE p.decision WHEN 'block' THEN block_due ELSE review_due END
        FROM predictions p JOIN transactions x ON x.transaction_id = p.transaction_id
        WHERE p.deciding AND p.decision <> 'approve' AND p.prediction_id > scan.done_to
          AND p.prediction_time > moment - max_age
          AND (x.class IS NULL OR x.class_implied)
          AND NOT EXISTS (SELECT FROM cases c WHERE c.transaction_id = p.transaction_id)
        ORDER BY p.prediction_id LIMIT most
        ON CONFLICT (transaction_id) DO NOTHING RETURNING case_id, origin, priority
    ), told AS (
        INSERT INTO case_events (case_id, actor, kind, details)
        SELECT case_id, 'system', 'opened', jsonb_build_object('origin', origin, 'priority', priority) FROM opened
        RETURNING 1
    ) SELECT count(*) INTO flagged FROM told;
    -- The search goes on from where everything has settled, unless something was left behind.
    IF flagged < most AND scan.seen_at <= moment - settle THEN
        IF share > 0 AND scan.seen_to > scan.done_to THEN
            -- Each approved transaction is drawn once, in steps of a bounded size.
            last_id := least(scan.seen_to, scan.done_to + 20 * most::bigint);
            WITH opened AS (
                INSERT INTO cases (transaction_id, origin, priority, due_at, sampling_share)
                SELECT p.transaction_id, 'sampled', p.score * coalesce(x.amount, 1),
                       p.prediction_time + sampled_due, share
                FROM predictions p JOIN transactions x ON x.transaction_id = p.transaction_id
                WHERE p.deciding AND p.decision = 'approve'
                  AND p.prediction_id > scan.done_to AND p.prediction_id <= last_id
                  AND p.prediction_time > moment - max_age
                  AND sampling_position(scan.salt, p.transaction_id) < share
                ON CONFLICT (transaction_id) DO NOTHING RETURNING case_id, origin, priority
            ), told AS (
                INSERT INTO case_events (case_id, actor, kind, details)
                SELECT case_id, 'system', 'opened', jsonb_build_object('origin', origin, 'share', share) FROM opened
                RETURNING 1
            ) SELECT count(*) INTO sampled FROM told;
        ELSE
            last_id := scan.seen_to;
        END IF;
        IF last_id < scan.seen_to THEN
            UPDATE case_scan SET done_to = last_id;
        ELSE
            UPDATE case_scan SET done_to = scan.seen_to, seen_at = moment,
                seen_to = greatest(scan.seen_to, coalesce((SELECT max(prediction_id) FROM predictions), 0));
        END IF;
    END IF;
    RETURN flagged + sampled;
END $$;

GRANT SELECT ON case_scan TO fraud_readonly;
