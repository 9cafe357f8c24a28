-- Batch prediction reads what is stored and the record of each model version, and stores predictions that decide nothing.

GRANT USAGE ON SCHEMA public TO fraud_batch;
GRANT SELECT ON transactions, predictions, model_versions TO fraud_batch;

-- The only way in which batch prediction writes: role and `deciding` are constants, so it can never decide. Returns how
-- many rows were inserted; those that the run has stored before are left as they are.
--
-- vectors: the concatenated feature vectors of all rows, `width` numbers each, as the text of one array.
CREATE FUNCTION store_batch_predictions(
    run text, model text, engine_name text, ids text[], scores double precision[], fraud_predicted boolean[],
    decisions text[], vectors text, width integer
) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    stored integer;
BEGIN
    IF run IS NULL OR run = '' THEN
        RAISE EXCEPTION 'a batch prediction belongs to a run' USING ERRCODE = 'not_null_violation';
    END IF;
    -- Sliced in the query, because every slice of a variable of this function would copy the whole array.
    WITH vector AS MATERIALIZED (SELECT vectors::real[] AS flat)
    INSERT INTO predictions (
        transaction_id, score, fraud_score, is_fraud_predicted, decision, feature_vector, prediction_time,
        model_version, role, run_id, deciding, engine)
    SELECT ids[i], scores[i], scores[i]::numeric(5, 4), fraud_predicted[i], decisions[i],
        vector.flat[(i - 1) * width + 1:i * width], clock_timestamp(), model, 'batch', run, false, engine_name
    FROM vector, generate_series(1, cardinality(ids)) AS i
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS stored = ROW_COUNT;
    RETURN stored;
END $$;

REVOKE ALL ON FUNCTION store_batch_predictions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION store_batch_predictions TO fraud_batch;
