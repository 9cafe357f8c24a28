-- What the query routes of the API read by, and the one way in which the API sets a label.

-- The order of pages. It replaces the index on the time alone, whose queries it serves as well.
CREATE INDEX predictions_page ON predictions (prediction_time, prediction_id);
DROP INDEX predictions_prediction_time;
-- A page of what is rare would otherwise read everything that is newer.
CREATE INDEX predictions_flagged ON predictions (prediction_time, prediction_id) WHERE deciding AND is_fraud_predicted;
CREATE INDEX transactions_merchant ON transactions (merchant_id, event_time) WHERE merchant_id IS NOT NULL;

GRANT SELECT ON audit_log TO fraud_api;

-- A person's report about a transaction: into the ledger, with the class, the case and the audit log in the caller's
-- transaction. A repetition by the same reporter adds nothing. No row: the transaction is unknown. The API may not write
-- labels or cases in any other way.
--
-- new_id: of the label if it is stored. remark: null if there is none.
CREATE FUNCTION label_transaction(new_id uuid, identifier text, value smallint, remark text, reporter text)
RETURNS TABLE (label_id uuid, reported_at timestamptz, stored boolean, class_now integer, closed_case bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- Two reports about the same transaction follow each other, so that the second one sees the first. The case comes
    -- first, as for whoever works on it, so that both wait in the same order.
    PERFORM FROM cases c WHERE c.transaction_id = identifier FOR UPDATE;
    PERFORM FROM transactions x WHERE x.transaction_id = identifier FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    stored := false;
    SELECT l.label_id, l.reported_at INTO label_id, reported_at
    FROM (SELECT l.* FROM labels l
          WHERE l.transaction_id = identifier AND l.source = 'analyst' AND l.reported_by = reporter
          ORDER BY l.reported_at DESC, l.label_id DESC LIMIT 1) l
    WHERE l.label = value;
    IF label_id IS NULL THEN
        stored := true;
        INSERT INTO labels AS l (label_id, transaction_id, label, source, reported_at, matures_at, reported_by)
        SELECT new_id, identifier, value, s.source, moment, moment + s.maturity, reporter
        FROM label_sources s, clock_timestamp() AS moment WHERE s.source = 'analyst'
        RETURNING l.label_id, l.reported_at INTO STRICT label_id, reported_at;
        PERFORM apply_labels(ARRAY[identifier]);
    END IF;
    UPDATE cases c
    SET state = 'closed', decision = value, decided_by = reporter, label_id = label_transaction.label_id,
        closed_at = clock_timestamp(), updated_at = clock_timestamp(), locked_until = NULL
    WHERE c.transaction_id = identifier AND (c.state <> 'closed' OR (stored AND c.decision IS DISTINCT FROM value))
    RETURNING c.case_id INTO closed_case;
    IF closed_case IS NOT NULL THEN
        INSERT INTO case_events (case_id, actor, kind, details)
        VALUES (closed_case, reporter, 'labelled', jsonb_strip_nulls(jsonb_build_object(
            'label', value, 'label_id', label_id, 'note', remark, 'by', 'api')));
    END IF;
    IF stored THEN
        PERFORM audit_append(reporter, 'label.set', identifier, jsonb_strip_nulls(jsonb_build_object(
            'label', value, 'source', 'analyst', 'label_id', label_id, 'note', remark, 'case_id', closed_case)));
    END IF;
    SELECT x.class INTO class_now FROM transactions x WHERE x.transaction_id = identifier;
    RETURN NEXT;
END $$;
REVOKE ALL ON FUNCTION label_transaction FROM PUBLIC;
GRANT EXECUTE ON FUNCTION label_transaction TO fraud_api;
