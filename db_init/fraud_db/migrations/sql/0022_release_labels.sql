-- Of the transactions that a release's current stage has decided, those about which a person or a bank has said
-- something since: by role the frauds, those of them that were flagged, the legitimate ones, and those of them
-- that were flagged. The API may read no labels, only these counts.
CREATE FUNCTION release_labels(release bigint)
RETURNS TABLE (role varchar, frauds bigint, caught bigint, legitimate bigint, false_alarms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p.role, count(*) FILTER (WHERE known.label = 1),
        count(*) FILTER (WHERE known.label = 1 AND p.is_fraud_predicted),
        count(*) FILTER (WHERE known.label = 0),
        count(*) FILTER (WHERE known.label = 0 AND p.is_fraud_predicted)
    FROM deployments d
    -- Few are labelled within a stage, so the labels lead and not the predictions.
    CROSS JOIN LATERAL (SELECT DISTINCT l.transaction_id FROM labels l
                        WHERE l.reported_at >= d.stage_started_at) AS said
    JOIN predictions p ON p.transaction_id = said.transaction_id AND p.deciding
        AND p.prediction_time >= d.stage_started_at
        AND (p.role = 'champion' OR (p.role = 'canary' AND p.model_version = d.version))
    CROSS JOIN LATERAL (SELECT a.label FROM labels_as_of(clock_timestamp()) a
                        WHERE a.transaction_id = said.transaction_id AND a.mature) AS known
    WHERE d.deployment_id = release AND d.ended_at IS NULL
    GROUP BY p.role
$$;
GRANT EXECUTE ON FUNCTION release_labels(bigint) TO fraud_api;
