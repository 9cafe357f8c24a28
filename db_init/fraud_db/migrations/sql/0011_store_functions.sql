-- Transactions and their predictions are stored by one call, whose statements are planned once per session. Row i of a
-- batch is element i of each array; an array that is null stands for a column of nulls.
--
-- A cached plan must not depend on the size of the tables when it was made, so rows are read only by index, once for
-- each row. LATERAL with OFFSET prevents the planner from reordering such a join.

-- As in 0008, but checks first whether there is anything to do: most new transactions have no label and are young.
CREATE OR REPLACE FUNCTION apply_labels_to_new(ids text[]) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(ids) AS i (id),
                    LATERAL (SELECT FROM labels l WHERE l.transaction_id = i.id LIMIT 1) AS label)
       OR EXISTS (SELECT FROM label_sources s, unnest(ids) AS i (id),
                       LATERAL (SELECT x.event_time FROM transactions x WHERE x.transaction_id = i.id OFFSET 0) AS new
                  WHERE s.source = 'implied' AND new.event_time <= clock_timestamp() - s.maturity)
    THEN
        RETURN set_classes(ids, clock_timestamp());
    END IF;
    RETURN 0;
END $$;

-- Inserts the transactions that do not exist and compares the others. The caller must call apply_labels_to_new with
-- the new ones afterwards. Positions count from 1.
--
-- numbers: n x 30, of each row the columns time, v1 to v28 and amount.
-- ordered: all positions, in the order in which rows are inserted. It is the same for all sessions, so that two
--     sessions that store the same ids do not deadlock.
-- new_ids, new_rows: the inserted rows. If an id occurs twice in the batch, the first one.
-- replayed_rows: stored before, or earlier in the batch, with the same fields. conflict_rows: with other fields.
CREATE FUNCTION merge_transactions(
    contract_id text, source_name text, ids text[], event_times timestamptz[], numbers numeric[], card_ids text[],
    merchant_ids text[], attributes text[], classes integer[],
    OUT ordered integer[], OUT new_ids text[], OUT new_rows integer[], OUT replayed_rows integer[],
    OUT conflict_rows integer[]
) LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_variable
BEGIN
    ordered := ARRAY(SELECT i FROM generate_series(1, cardinality(ids)) AS i ORDER BY ids[i] COLLATE "C", i);
    WITH inserted AS (
        INSERT INTO transactions AS t (
            transaction_id, event_time, time, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15, v16,
            v17, v18, v19, v20, v21, v22, v23, v24, v25, v26, v27, v28, amount, card_id, merchant_id, attributes,
            class, contract, source)
        SELECT
            ids[i], event_times[i], numbers[i][1], numbers[i][2], numbers[i][3], numbers[i][4], numbers[i][5],
            numbers[i][6], numbers[i][7], numbers[i][8], numbers[i][9], numbers[i][10], numbers[i][11],
            numbers[i][12], numbers[i][13], numbers[i][14], numbers[i][15], numbers[i][16], numbers[i][17],
            numbers[i][18], numbers[i][19], numbers[i][20], numbers[i][21], numbers[i][22], numbers[i][23],
            numbers[i][24], numbers[i][25], numbers[i][26], numbers[i][27], numbers[i][28], numbers[i][29],
            numbers[i][30], card_ids[i], merchant_ids[i], attributes[i]::jsonb, classes[i], contract_id, source_name
        FROM unnest(ordered) AS i
        ON CONFLICT (transaction_id) DO NOTHING RETURNING t.transaction_id
    )
    SELECT coalesce(array_agg(inserted.transaction_id), '{}') INTO new_ids FROM inserted;
    IF cardinality(new_ids) = cardinality(ids) THEN
        new_rows := ordered;
        replayed_rows := '{}';
        conflict_rows := '{}';
        RETURN;
    END IF;
    new_rows := ARRAY(
        SELECT min(i) FROM generate_series(1, cardinality(ids)) AS i JOIN unnest(new_ids) AS n (id) ON n.id = ids[i]
        GROUP BY n.id);
    -- A separate statement, so that it sees the rows that were committed while the insert waited for them.
    SELECT coalesce(array_agg(r.i) FILTER (WHERE known.same), '{}'),
           coalesce(array_agg(r.i) FILTER (WHERE NOT known.same), '{}')
    INTO replayed_rows, conflict_rows
    FROM (SELECT unnest(ordered) AS i EXCEPT SELECT unnest(new_rows)) AS r,
        LATERAL (
            SELECT t.contract = contract_id AND (
                    t.time, t.v1, t.v2, t.v3, t.v4, t.v5, t.v6, t.v7, t.v8, t.v9, t.v10, t.v11, t.v12, t.v13, t.v14,
                    t.v15, t.v16, t.v17, t.v18, t.v19, t.v20, t.v21, t.v22, t.v23, t.v24, t.v25, t.v26, t.v27, t.v28,
                    t.amount, t.card_id, t.merchant_id, t.attributes
                ) IS NOT DISTINCT FROM (
                    numbers[r.i][1], numbers[r.i][2], numbers[r.i][3], numbers[r.i][4], numbers[r.i][5],
                    numbers[r.i][6], numbers[r.i][7], numbers[r.i][8], numbers[r.i][9], numbers[r.i][10],
                    numbers[r.i][11], numbers[r.i][12], numbers[r.i][13], numbers[r.i][14], numbers[r.i][15],
                    numbers[r.i][16], numbers[r.i][17], numbers[r.i][18], numbers[r.i][19], numbers[r.i][20],
                    numbers[r.i][21], numbers[r.i][22], numbers[r.i][23], numbers[r.i][24], numbers[r.i][25],
                    numbers[r.i][26], numbers[r.i][27], numbers[r.i][28], numbers[r.i][29], numbers[r.i][30],
                    card_ids[r.i], merchant_ids[r.i], attributes[r.i]::jsonb
                ) AS same
            FROM transactions t WHERE t.transaction_id = ids[r.i] OFFSET 0
        ) AS known;
END $$;

-- To be called after merge_transactions, in the same transaction: stores the predictions of all rows except conflicts,
-- the alerts of transactions that are newly blocked or sent to review, and the classes that follow from labels.
--
-- ordered, new_ids, replayed_rows, conflict_rows: the output of merge_transactions.
-- vectors: the concatenated feature vectors of all rows, `width` numbers each, as the text of one array.
-- decided_ids: transactions that existed without a decision and have one now.
CREATE FUNCTION store_predictions(
    ids text[], ordered integer[], new_ids text[], replayed_rows integer[], conflict_rows integer[],
    scores double precision[], fraud_predicted boolean[], decisions text[], vectors text, width integer,
    latencies real[], traceparents text[],
    prediction_time timestamptz, model_version text, role text, run_id text, deciding boolean, engine text,
    policy_version text,
    OUT decided_ids text[]
) LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    predicted_ids text[];
    announced_ids text[];
BEGIN
    -- Sliced in the query, because every slice of a variable of this function would copy the whole array.
    WITH vector AS MATERIALIZED (SELECT vectors::real[] AS flat), predicted AS (
        INSERT INTO predictions AS p (
            transaction_id, score, fraud_score, is_fraud_predicted, decision, feature_vector, latency_ms, traceparent,
            prediction_time, model_version, role, run_id, deciding, engine, policy_version)
        SELECT
            ids[i], scores[i], scores[i]::numeric(5, 4), fraud_predicted[i], decisions[i],
            vector.flat[(i - 1) * width + 1:i * width], latencies[i], traceparents[i],
            coalesce(prediction_time, clock_timestamp()), model_version, role, run_id, deciding, engine, policy_version
        FROM vector, unnest(ordered) AS i
        WHERE i <> ALL (conflict_rows)
        ON CONFLICT DO NOTHING RETURNING p.transaction_id, p.decision
    )
    SELECT array_agg(predicted.transaction_id),
           array_agg(predicted.transaction_id) FILTER (WHERE predicted.decision IN ('block', 'review'))
    INTO predicted_ids, announced_ids FROM predicted;
    decided_ids := '{}';
    IF deciding THEN
        IF announced_ids IS NOT NULL THEN
            INSERT INTO alert_outbox (transaction_id) SELECT unnest(announced_ids) ON CONFLICT DO NOTHING;
        END IF;
        IF replayed_rows <> '{}' THEN
            decided_ids := ARRAY(SELECT unnest(predicted_ids) EXCEPT SELECT unnest(new_ids));
        END IF;
    END IF;
    IF new_ids <> '{}' THEN
        PERFORM apply_labels_to_new(new_ids);
    END IF;
    IF decided_ids <> '{}' THEN
        -- These existed without a decision: a blocked transaction now needs an explicit label.
        PERFORM apply_labels(decided_ids);
    END IF;
END $$;

-- Calls both functions.
CREATE FUNCTION store_scored(
    contract_id text, source_name text, ids text[], event_times timestamptz[], numbers numeric[], card_ids text[],
    merchant_ids text[], attributes text[], classes integer[],
    scores double precision[], fraud_predicted boolean[], decisions text[], vectors text, width integer,
    latencies real[], traceparents text[],
    prediction_time timestamptz, model_version text, role text, run_id text, deciding boolean, engine text,
    policy_version text,
    OUT new_rows integer[], OUT replayed_rows integer[], OUT conflict_rows integer[], OUT decided_ids text[]
) LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    merged record;
BEGIN
    merged := merge_transactions(
        contract_id, source_name, ids, event_times, numbers, card_ids, merchant_ids, attributes, classes);
    new_rows := merged.new_rows;
    replayed_rows := merged.replayed_rows;
    conflict_rows := merged.conflict_rows;
    decided_ids := store_predictions(
        ids, merged.ordered, merged.new_ids, replayed_rows, conflict_rows, scores, fraud_predicted, decisions, vectors,
        width, latencies, traceparents, prediction_time, model_version, role, run_id, deciding, engine, policy_version);
END $$;

GRANT EXECUTE ON FUNCTION merge_transactions TO fraud_producer, fraud_streaming, fraud_api;
GRANT EXECUTE ON FUNCTION store_predictions, store_scored TO fraud_streaming, fraud_api;
