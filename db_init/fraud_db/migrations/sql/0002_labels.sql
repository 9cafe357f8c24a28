-- The truth as it becomes known: a ledger, and the one reading of it.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;

-- Kept equal to the configuration by each upgrade; `implied` is the source of labels nobody reported.
CREATE TABLE label_sources (
    source varchar(20) PRIMARY KEY,
    precedence integer NOT NULL,
    maturity interval NOT NULL CHECK (maturity >= interval '0')
);

-- No foreign key to transactions: a label may come before its transaction.
CREATE TABLE labels (
    label_id uuid PRIMARY KEY,
    transaction_id varchar(50) NOT NULL CHECK (transaction_id <> ''),
    label smallint NOT NULL CHECK (label IN (0, 1)),
    source varchar(20) NOT NULL REFERENCES label_sources (source) CHECK (source <> 'implied'),
    reported_at timestamptz NOT NULL CHECK (isfinite(reported_at)),
    matures_at timestamptz NOT NULL CHECK (matures_at >= reported_at),
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX labels_transaction ON labels (transaction_id);
CREATE INDEX labels_reported_at ON labels (reported_at);
CREATE TRIGGER labels_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON labels
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The simulator's truth until it is due.
CREATE TABLE simulated_labels (
    transaction_id varchar(50) PRIMARY KEY,
    label smallint NOT NULL CHECK (label IN (0, 1)),
    due_at timestamptz NOT NULL,
    sent_at timestamptz
);
CREATE INDEX simulated_labels_due ON simulated_labels (due_at) WHERE sent_at IS NULL;

CREATE TABLE simulations (
    population varchar(64) PRIMARY KEY,
    parameters jsonb NOT NULL,
    optimum jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What was known at t. Explicit: of the labels reported by t the one of the highest precedence, then the
-- latest, then the greatest id, also where the transaction itself has not arrived. Implied: nobody reported
-- the transaction by t, it is old enough, and it was not blocked.
-- Plain SQL with one SELECT, invoker's rights and no SET clause, so that the planner inlines it and pushes
-- a condition on transaction_id down to the indexes.
CREATE FUNCTION labels_as_of(t timestamptz)
RETURNS TABLE (transaction_id varchar, label smallint, source varchar, reported_at timestamptz, mature boolean)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT explicit.transaction_id, explicit.label, explicit.source, explicit.reported_at, explicit.mature
    FROM (
        SELECT DISTINCT ON (l.transaction_id)
               l.transaction_id, l.label, l.source, l.reported_at, l.matures_at <= t AS mature
        FROM public.labels l JOIN public.label_sources s ON s.source = l.source
        WHERE l.reported_at <= t
        ORDER BY l.transaction_id, s.precedence DESC, l.reported_at DESC, l.label_id DESC
    ) explicit
    UNION ALL
    SELECT x.transaction_id, 0::smallint, s.source, x.event_time + s.maturity, true
    FROM public.transactions x JOIN public.label_sources s ON s.source = 'implied'
    WHERE x.event_time <= t - s.maturity
      AND NOT EXISTS (SELECT FROM public.labels l
                      WHERE l.transaction_id = x.transaction_id AND l.reported_at <= t)
      AND NOT EXISTS (SELECT FROM public.predictions p
                      WHERE p.transaction_id = x.transaction_id AND p.deciding AND p.decision = 'block')
$$;

-- A label and its transaction may be stored at the same moment by two sessions that do not see each
-- other yet. Whoever stores transactions holds this lock shared; whoever stores a label without seeing its
-- transaction takes it exclusively before looking again. So one of the two always sees the other.
CREATE FUNCTION transactions_being_stored() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7234019850112);
    RETURN NULL;
END $$;
CREATE TRIGGER transactions_being_stored BEFORE INSERT ON transactions
    FOR EACH STATEMENT EXECUTE FUNCTION transactions_being_stored();

-- Sets transactions.class to what labels_as_of says now. Whoever inserts transactions or labels calls it
-- for their ids in the same transaction. Silence never overrules a class that came with the transaction.
-- Planned at each call: a plan kept from when the tables were small would compare every row with every id.
CREATE FUNCTION apply_labels(ids text[]) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    changed integer := 0;
    round_changed integer;
    -- Not now(): a label reported after this transaction began counts as well.
    moment timestamptz := clock_timestamp();
BEGIN
    FOR attempt IN 1..2 LOOP
        UPDATE transactions x SET class = a.label
        FROM labels_as_of(moment) a
        WHERE a.transaction_id = ANY (ids) AND x.transaction_id = a.transaction_id
          AND x.class IS DISTINCT FROM a.label AND (a.source <> 'implied' OR x.class IS NULL);
        GET DIAGNOSTICS round_changed = ROW_COUNT;
        changed := changed + round_changed;
        EXIT WHEN attempt = 2 OR NOT EXISTS (
            SELECT FROM unnest(ids) AS i (id)
            WHERE NOT EXISTS (SELECT FROM transactions x WHERE x.transaction_id = i.id));
        PERFORM pg_advisory_xact_lock(7234019850112);
    END LOOP;
    RETURN changed;
END $$;
