-- Cases of decisions, labels that contradict each other, the collection of what people and banks report, and the daily
-- housekeeping.

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

-- When the reports about a transaction contradicted each other, by the times at which they were reported. It follows
-- from the ledger alone. resolved_at: when they agreed again, or a person adjudicated.
CREATE TABLE label_disputes (
    transaction_id varchar(50) NOT NULL,
    opened_at timestamptz NOT NULL,
    resolved_at timestamptz CHECK (resolved_at > opened_at),
    PRIMARY KEY (transaction_id, opened_at)
);
CREATE INDEX label_disputes_open ON label_disputes (opened_at) WHERE resolved_at IS NULL;

-- The rule: at each moment the latest report of each voice counts. A voice is a source and who reported: a person who
-- reports twice is one voice, and so is the bank. An adjudication settles all reports up to its time, and is itself a
-- voice from then on. Where the voices differ, the transaction is disputed.
CREATE FUNCTION disputes_of(ids text[])
RETURNS TABLE (transaction_id varchar, opened_at timestamptz, resolved_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
    WITH contested AS MATERIALIZED (
        SELECT l.transaction_id FROM labels l WHERE l.transaction_id = ANY (ids)
        GROUP BY l.transaction_id HAVING min(l.label) < max(l.label)
    ), reports AS (
        SELECT l.transaction_id, l.label, l.reported_at AS since, l.source = 'adjudication' AS adjudicates,
               -- The voice's next report, and the next adjudication, also one of the same moment.
               lead(l.reported_at) OVER (PARTITION BY l.transaction_id, l.source,
                   CASE WHEN l.source <> 'adjudication' THEN l.reported_by END
                   ORDER BY l.reported_at, l.label_id) AS next_own,
               min(l.reported_at) FILTER (WHERE l.source = 'adjudication') OVER (PARTITION BY l.transaction_id
                   ORDER BY l.reported_at RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS next_settled
        FROM contested c JOIN labels l USING (transaction_id)
    ), counting AS (
        SELECT r.transaction_id, r.label, r.since,
               CASE WHEN r.adjudicates THEN r.next_own ELSE least(r.next_own, r.next_settled) END AS until
        FROM reports r
    ), steps AS (
        SELECT e.transaction_id, e.moment, sum(e.step) FILTER (WHERE c.label = 1) AS frauds,
               sum(e.step) FILTER (WHERE c.label = 0) AS legitimate
        FROM counting c CROSS JOIN LATERAL (
            VALUES (c.transaction_id, c.since, 1), (c.transaction_id, c.until, -1)
        ) e (transaction_id, moment, step)
        WHERE e.moment IS NOT NULL
        GROUP BY e.transaction_id, e.moment
    ), moments AS (
        SELECT t.transaction_id, t.moment,
               coalesce(sum(t.frauds) OVER earlier, 0) > 0 AND coalesce(sum(t.legitimate) OVER earlier, 0) > 0
                   AS disputed
        FROM steps t WINDOW earlier AS (PARTITION BY t.transaction_id ORDER BY t.moment)
    ), compared AS (
        SELECT m.*, lag(m.disputed, 1, false) OVER (PARTITION BY m.transaction_id ORDER BY m.moment) AS was_disputed
        FROM moments m
    ), changes AS (
        SELECT m.transaction_id, m.disputed, m.moment AS opened_at,
               lead(m.moment) OVER (PARTITION BY m.transaction_id ORDER BY m.moment) AS resolved_at
        FROM compared m WHERE m.disputed <> m.was_disputed
    )
    SELECT c.transaction_id, c.opened_at, c.resolved_at FROM changes c WHERE c.disputed
$$;

-- Brings the disputes of these transactions in line with the ledger. Whoever calls it has locked the transactions.
CREATE FUNCTION settle_disputes(ids text[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    contested text[];
BEGIN
    -- Most transactions were never contested, and this is all that is done about them.
    contested := ARRAY(SELECT l.transaction_id FROM labels l WHERE l.transaction_id = ANY (ids)
                       GROUP BY l.transaction_id HAVING min(l.label) < max(l.label));
    IF contested = '{}' THEN
        RETURN;
    END IF;
    WITH known AS MATERIALIZED (SELECT * FROM disputes_of(contested)), gone AS (
        DELETE FROM label_disputes d WHERE d.transaction_id = ANY (contested)
        AND NOT EXISTS (SELECT FROM known k
                        WHERE k.transaction_id = d.transaction_id AND k.opened_at = d.opened_at)
    )
    INSERT INTO label_disputes AS d (transaction_id, opened_at, resolved_at)
    SELECT k.transaction_id, k.opened_at, k.resolved_at FROM known k
    ON CONFLICT (transaction_id, opened_at) DO UPDATE SET resolved_at = excluded.resolved_at
    WHERE d.resolved_at IS DISTINCT FROM excluded.resolved_at;
END $$;

-- As in 0010, and a disputed transaction's label is not mature: nothing that is trained or measured uses it. At most
-- one dispute lasts at a time; that is said by GROUP BY, so that who does not ask whether a label is mature, as those
-- who keep the classes, does not look for disputes at all.
CREATE OR REPLACE FUNCTION labels_as_of(t timestamptz)
RETURNS TABLE (transaction_id varchar, label smallint, source varchar, reported_at timestamptz, mature boolean)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT explicit.transaction_id, explicit.label, explicit.source, explicit.reported_at,
           explicit.mature AND d.transaction_id IS NULL
    FROM (
        SELECT DISTINCT ON (l.transaction_id)
               l.transaction_id, l.label, l.source, l.reported_at, l.matures_at <= t AS mature
        FROM public.labels l JOIN public.label_sources s ON s.source = l.source
        WHERE l.reported_at <= t
        ORDER BY l.transaction_id, s.precedence DESC, l.reported_at DESC, l.label_id DESC
    ) explicit
    LEFT JOIN (SELECT lasting.transaction_id FROM public.label_disputes lasting
               WHERE lasting.opened_at <= t AND (lasting.resolved_at IS NULL OR lasting.resolved_at > t)
               GROUP BY lasting.transaction_id) d ON d.transaction_id = explicit.transaction_id
    WHERE public.has_come(t)
    UNION ALL
    SELECT x.transaction_id, 0::smallint, s.source, x.event_time + s.maturity, true
    FROM public.transactions x JOIN public.label_sources s ON s.source = 'implied'
    WHERE public.has_come(t) AND x.event_time <= t - s.maturity
      AND NOT EXISTS (SELECT FROM public.labels l
                      WHERE l.transaction_id = x.transaction_id AND l.reported_at <= t)
      AND NOT EXISTS (SELECT FROM public.predictions p
                      WHERE p.transaction_id = x.transaction_id AND p.deciding AND p.decision = 'block')
$$;

-- As in 0008, and settles what the labels dispute: here, because sessions that report about one transaction pass one
-- after the other, so that the last one sees both sides of a contradiction.
CREATE OR REPLACE FUNCTION apply_labels(ids text[]) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    silent text[];
    moment timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'apply_labels needs the isolation level READ COMMITTED'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    -- Before the rows, as those who store transactions do: in one order nobody waits in a circle.
    IF EXISTS (SELECT FROM unnest(ids) AS i (id)
               WHERE NOT EXISTS (SELECT FROM transactions x WHERE x.transaction_id = i.id)) THEN
        PERFORM pg_advisory_xact_lock(7234019850112);
    END IF;
    -- Materialized: all are locked, whatever is asked of them.
    silent := ARRAY(
        WITH locked AS MATERIALIZED (
            SELECT x.transaction_id, x.class_implied FROM transactions x WHERE x.transaction_id = ANY (ids)
            ORDER BY x.transaction_id FOR NO KEY UPDATE)
        SELECT transaction_id FROM locked WHERE class_implied);
    -- Not now(), nor before the wait: a label reported meanwhile counts as well.
    moment := clock_timestamp();
    INSERT INTO labels_ahead
    SELECT l.label_id, l.transaction_id, l.reported_at FROM labels l
    WHERE l.transaction_id = ANY (ids) AND l.reported_at > moment
    ON CONFLICT DO NOTHING;
    PERFORM settle_disputes(ids);
    IF silent <> '{}' THEN
        PERFORM withdraw_silence(silent, moment);
    END IF;
    RETURN set_classes(ids, moment);
END $$;

-- What people and banks have reported and no run has collected yet. The simulator reports every transaction, and is
-- not feedback.
CREATE TABLE feedback_reports (
    label_id uuid PRIMARY KEY,
    transaction_id varchar(50) NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    run_id varchar(250)
);
CREATE INDEX feedback_reports_waiting ON feedback_reports (label_id) WHERE run_id IS NULL;
CREATE INDEX feedback_reports_run ON feedback_reports (run_id) WHERE run_id IS NOT NULL;

-- Noted in the transaction that stores the label: by a time that is kept, a report whose transaction takes long would
-- be passed over.
CREATE FUNCTION note_reports() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO feedback_reports (label_id, transaction_id)
    SELECT s.label_id, s.transaction_id FROM stored s WHERE s.source <> 'simulator';
    RETURN NULL;
END $$;
CREATE TRIGGER labels_noted AFTER INSERT ON labels REFERENCING NEW TABLE AS stored
    FOR EACH STATEMENT EXECUTE FUNCTION note_reports();

-- One row for each run: what it collected, so that a run that is repeated says the same again.
CREATE TABLE feedback_runs (
    run_id varchar(250) PRIMARY KEY,
    collected_at timestamptz NOT NULL DEFAULT now(),
    collected jsonb NOT NULL,
    classes_changed bigint NOT NULL DEFAULT 0,
    applied_at timestamptz
);

-- What is known of the feedback itself. Part: empty for the whole, else a kind of case or of decision.
CREATE TABLE feedback_metrics (
    contract varchar(50) NOT NULL,
    run_id varchar(250) NOT NULL,
    metric varchar(40) NOT NULL,
    part varchar(40) NOT NULL DEFAULT '',
    measured_at timestamptz NOT NULL DEFAULT now(),
    value double precision CHECK (value > '-Infinity' AND value < 'Infinity'),
    low double precision CHECK (low > '-Infinity' AND low < 'Infinity'),
    high double precision CHECK (high > '-Infinity' AND high < 'Infinity'),
    rows bigint,
    window_from timestamptz,
    window_to timestamptz,
    details jsonb,
    PRIMARY KEY (contract, run_id, metric, part)
);
CREATE INDEX feedback_metrics_measured_at ON feedback_metrics (metric, measured_at);

-- Cases for what is disputed and has none that is open, at most so many, the oldest first. A case that was closed
-- opens again; one that is open becomes a dispute. Gives how many.
CREATE FUNCTION open_disputed_cases(due interval, most integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    opened integer;
BEGIN
    WITH undecided AS MATERIALIZED (
        SELECT d.transaction_id, d.opened_at FROM label_disputes d
        JOIN transactions x ON x.transaction_id = d.transaction_id
        LEFT JOIN cases c ON c.transaction_id = d.transaction_id
        WHERE d.resolved_at IS NULL AND d.opened_at <= clock_timestamp()
          AND (c.case_id IS NULL OR c.state = 'closed' OR c.origin <> 'disputed')
        ORDER BY d.opened_at, d.transaction_id LIMIT most
    ), stored AS (
        INSERT INTO cases AS c (transaction_id, origin, priority, due_at)
        SELECT u.transaction_id, 'disputed', coalesce(p.score * coalesce(x.amount, 1), 0), u.opened_at + due
        FROM undecided u JOIN transactions x ON x.transaction_id = u.transaction_id
        LEFT JOIN predictions p ON p.transaction_id = u.transaction_id AND p.deciding
        ORDER BY u.transaction_id
        ON CONFLICT (transaction_id) DO UPDATE SET
            origin = 'disputed', due_at = excluded.due_at, updated_at = clock_timestamp(),
            state = CASE c.state WHEN 'closed' THEN 'open' ELSE c.state END,
            closed_at = NULL, decision = NULL, decided_by = NULL, label_id = NULL,
            assignee = CASE c.state WHEN 'closed' THEN NULL ELSE c.assignee END,
            locked_until = CASE c.state WHEN 'closed' THEN NULL ELSE c.locked_until END
        WHERE c.state = 'closed' OR c.origin <> 'disputed'
        RETURNING c.case_id, c.xmax = 0 AS is_new
    ), told AS (
        INSERT INTO case_events (case_id, actor, kind, details)
        SELECT s.case_id, 'system', CASE WHEN s.is_new THEN 'opened' ELSE 'reopened' END,
               jsonb_build_object('origin', 'disputed')
        FROM stored s RETURNING 1
    ) SELECT count(*) INTO opened FROM told;
    RETURN opened;
END $$;

-- Closes the cases of disputes in which the voices agree again, but not what a person has opened again. Gives how many.
CREATE FUNCTION close_settled_cases(most integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    closed integer;
BEGIN
    WITH settled AS MATERIALIZED (
        SELECT c.case_id, c.transaction_id FROM cases c
        WHERE c.state <> 'closed' AND c.origin = 'disputed'
          AND NOT EXISTS (SELECT FROM label_disputes d
                          WHERE d.transaction_id = c.transaction_id AND d.resolved_at IS NULL)
          AND NOT EXISTS (SELECT FROM case_events e
                          WHERE e.case_id = c.case_id AND e.kind = 'reopened' AND e.actor <> 'system')
        ORDER BY c.case_id LIMIT most FOR UPDATE SKIP LOCKED
    ), stored AS (
        UPDATE cases c SET state = 'closed', closed_at = clock_timestamp(), updated_at = clock_timestamp(),
            assignee = NULL, locked_until = NULL,
            decision = (SELECT a.label FROM labels_as_of(clock_timestamp()) a
                        WHERE a.transaction_id = s.transaction_id)
        FROM settled s WHERE c.case_id = s.case_id RETURNING c.case_id
    ), told AS (
        INSERT INTO case_events (case_id, actor, kind, details)
        SELECT s.case_id, 'system', 'settled', jsonb_build_object('why', 'the labels agree again')
        FROM stored s RETURNING 1
    ) SELECT count(*) INTO closed FROM told;
    RETURN closed;
END $$;

-- Opens what an analyst has taken and left until the lock ran out. Gives how many.
CREATE FUNCTION return_left_cases(most integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    returned integer;
BEGIN
    WITH left_behind AS MATERIALIZED (
        SELECT c.case_id, c.assignee FROM cases c
        WHERE c.state = 'assigned' AND c.locked_until <= clock_timestamp()
        ORDER BY c.case_id LIMIT most FOR UPDATE SKIP LOCKED
    ), stored AS (
        UPDATE cases c SET state = 'open', assignee = NULL, locked_until = NULL, updated_at = clock_timestamp()
        FROM left_behind l WHERE c.case_id = l.case_id RETURNING c.case_id, l.assignee
    ), told AS (
        INSERT INTO case_events (case_id, actor, kind, details)
        SELECT s.case_id, 'system', 'released', jsonb_build_object('why', 'the lock ran out', 'assignee', s.assignee)
        FROM stored s RETURNING 1
    ) SELECT count(*) INTO returned FROM told;
    RETURN returned;
END $$;

-- Housekeeping, at most so many rows at a time, the oldest first; gives how many. Nobody may delete what is younger
-- than a day: a wrong value in the configuration costs no letter that somebody may want to put back.
CREATE FUNCTION forget_dead_letters(before timestamptz, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    removed integer;
BEGIN
    DELETE FROM dead_letters WHERE id IN (
        SELECT d.id FROM dead_letters d
        WHERE d.created_at < least(before, clock_timestamp() - interval '1 day')
        ORDER BY d.created_at LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;

-- Only of sessions that have expired.
CREATE FUNCTION forget_sessions(before timestamptz, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    removed integer;
BEGIN
    DELETE FROM sessions WHERE session_hash IN (
        SELECT s.session_hash FROM sessions s WHERE s.expires_at < least(before, clock_timestamp())
        ORDER BY s.expires_at LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;

-- Only of reports that a run has collected. The reports themselves stay in the ledger.
CREATE FUNCTION forget_feedback_reports(before timestamptz, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    removed integer;
BEGIN
    DELETE FROM feedback_reports WHERE label_id IN (
        SELECT f.label_id FROM feedback_reports f
        WHERE f.run_id IS NOT NULL AND f.noted_at < least(before, clock_timestamp() - interval '1 day')
        LIMIT most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;

-- What was reported before this migration: what it disputes, and what no run has collected.
SELECT settle_disputes(ARRAY(SELECT l.transaction_id FROM labels l
                             GROUP BY l.transaction_id HAVING min(l.label) < max(l.label)));
INSERT INTO feedback_reports (label_id, transaction_id, noted_at)
SELECT l.label_id, l.transaction_id, l.received_at FROM labels l WHERE l.source <> 'simulator';

GRANT SELECT ON label_disputes TO fraud_trainer, fraud_monitor, fraud_rollout, fraud_readonly;
GRANT SELECT ON feedback_reports, feedback_runs, feedback_metrics TO fraud_readonly;
GRANT SELECT ON feedback_metrics TO fraud_grafana;

GRANT USAGE ON SCHEMA public TO fraud_feedback;
GRANT SELECT ON transactions, predictions, labels, label_sources, label_disputes, cases, case_scan,
    feedback_reports, feedback_runs, feedback_metrics TO fraud_feedback;
GRANT INSERT ON labels, feedback_runs, feedback_metrics TO fraud_feedback;
GRANT UPDATE (run_id) ON feedback_reports TO fraud_feedback;
GRANT UPDATE (collected, classes_changed, applied_at) ON feedback_runs TO fraud_feedback;
GRANT UPDATE (measured_at, value, low, high, rows, window_from, window_to, details) ON feedback_metrics
    TO fraud_feedback;
GRANT EXECUTE ON FUNCTION labels_as_of(timestamptz), has_come(timestamptz), apply_labels(text[]),
    refresh_classes(integer), audit_append(text, text, text, jsonb), open_disputed_cases(interval, integer),
    open_cases(interval, interval, interval, double precision, interval, interval, integer),
    close_settled_cases(integer), return_left_cases(integer), forget_dead_letters(timestamptz, integer),
    forget_sessions(timestamptz, integer), forget_feedback_reports(timestamptz, integer) TO fraud_feedback;
