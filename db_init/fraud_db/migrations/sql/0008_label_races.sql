-- The class of a transaction equals what its labels say, whoever stores what at the same moment, and also
-- where only time has passed.

-- Whether silence was judged. Null: not yet, or a class is there anyway. True: the class is 0 because nobody
-- reported the transaction. False: it was judged, and the class is not silence's: an explicit label took
-- over, or the transaction was blocked.
ALTER TABLE transactions ADD COLUMN class_implied boolean;
CREATE INDEX transactions_silent ON transactions (event_time) WHERE class IS NULL AND class_implied IS NULL;

-- Labels stored before the time they say they were reported at, until that time has come.
CREATE TABLE labels_ahead (
    label_id uuid PRIMARY KEY,
    transaction_id varchar(50) NOT NULL,
    reported_at timestamptz NOT NULL
);
CREATE INDEX labels_ahead_reported_at ON labels_ahead (reported_at);
INSERT INTO labels_ahead SELECT label_id, transaction_id, reported_at FROM labels WHERE reported_at > now();

-- For the functions below, which lock what must be locked. Planned at each call: a plan kept from when the
-- tables were small would compare every row with every id.
CREATE FUNCTION set_classes(ids text[], moment timestamptz) RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    changed integer;
BEGIN
    UPDATE transactions x SET class = a.label, class_implied = (a.source = 'implied')
    FROM labels_as_of(moment) a
    WHERE a.transaction_id = ANY (ids) AND x.transaction_id = a.transaction_id
      AND CASE a.source WHEN 'implied' THEN x.class IS NULL
                        ELSE x.class IS DISTINCT FROM a.label OR x.class_implied END;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;

-- Silence no longer counts: blocked since, or the time it must last is longer now.
CREATE FUNCTION withdraw_silence(ids text[], moment timestamptz) RETURNS void LANGUAGE sql
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
    UPDATE transactions x SET class = NULL, class_implied = NULL
    WHERE x.transaction_id = ANY (ids) AND x.class_implied
      AND NOT EXISTS (SELECT FROM labels_as_of(moment) a WHERE a.transaction_id = x.transaction_id)
$$;

-- Whoever inserts labels, or predictions of transactions that were there already, calls it for their
-- transactions' ids afterwards, in the same transaction. Sessions that say something about the same
-- transaction pass one after the other: each locks the row after its own inserts and looks only then, so the
-- last one sees them all. Under REPEATABLE READ it would still look from before it waited.
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
    IF silent <> '{}' THEN
        PERFORM withdraw_silence(silent, moment);
    END IF;
    RETURN set_classes(ids, moment);
END $$;

-- The same for transactions the caller has just inserted: nobody else sees them, so there is nothing to wait
-- for. A label stored meanwhile waits until they are committed (transactions_being_stored).
CREATE FUNCTION apply_labels_to_new(ids text[]) RETURNS integer LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT set_classes(ids, clock_timestamp())
$$;

-- What changes as time passes: labels whose time has come, then silence that has lasted. Works off at most
-- `most` of them, the oldest first, and gives how many; fewer than `most` means that nothing was left but
-- what others were at work on. In a transaction of its own: a lock it waits for comes before those it skips.
CREATE FUNCTION refresh_classes(most integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    told text[];
    silent text[];
    moment timestamptz := clock_timestamp();
BEGIN
    WITH taken AS (
        DELETE FROM labels_ahead a USING (
            SELECT label_id FROM labels_ahead WHERE reported_at <= moment
            ORDER BY reported_at LIMIT most FOR UPDATE SKIP LOCKED) due
        WHERE a.label_id = due.label_id RETURNING a.transaction_id
    ) SELECT coalesce(array_agg(transaction_id::text), '{}') INTO told FROM taken;
    IF told <> '{}' THEN
        PERFORM apply_labels(told);
    END IF;
    silent := ARRAY(
        SELECT x.transaction_id FROM transactions x
        WHERE x.class IS NULL AND x.class_implied IS NULL
          AND x.event_time <= moment - (SELECT s.maturity FROM label_sources s WHERE s.source = 'implied')
        ORDER BY x.event_time LIMIT most - cardinality(told) FOR NO KEY UPDATE SKIP LOCKED);
    IF silent <> '{}' THEN
        PERFORM set_classes(silent, clock_timestamp());
        -- The rest was blocked: not asked again.
        UPDATE transactions SET class_implied = false WHERE transaction_id = ANY (silent) AND class IS NULL;
    END IF;
    RETURN cardinality(told) + cardinality(silent);
END $$;

-- All classes anew, for when the rules have changed. A class that came with its transaction stays unless a
-- label says otherwise. Locks no rows: the caller keeps everybody else out.
CREATE FUNCTION reclassify() RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    after text := '';
    ids text[];
BEGIN
    LOOP
        ids := ARRAY(SELECT x.transaction_id FROM transactions x WHERE x.transaction_id > after
                     ORDER BY x.transaction_id LIMIT 10000);
        EXIT WHEN ids = '{}';
        PERFORM withdraw_silence(ids, clock_timestamp());
        PERFORM set_classes(ids, clock_timestamp());
        after := ids[cardinality(ids)];
    END LOOP;
END $$;
SELECT reclassify();

GRANT SELECT ON labels_ahead TO fraud_readonly;
GRANT EXECUTE ON FUNCTION apply_labels_to_new(text[]) TO fraud_producer, fraud_streaming, fraud_api;
GRANT EXECUTE ON FUNCTION refresh_classes(integer) TO fraud_streaming;
