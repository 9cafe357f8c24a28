-- Where each model version comes from, and the history of the aliases.

ALTER TABLE model_versions
    ADD COLUMN origin varchar(10) NOT NULL DEFAULT 'trained' CHECK (origin IN ('trained', 'imported')),
    ADD COLUMN data_digest char(64) CONSTRAINT model_versions_data_digest CHECK (data_digest ~ '^[0-9a-f]{64}$'),
    ADD COLUMN code_version varchar(100),
    ADD COLUMN parent_run varchar(400);

-- Only these entries of the audit log, so that services show the history without reading what people did.
CREATE VIEW model_alias_history AS
SELECT a.entry_id, a.recorded_at, a.actor, split_part(a.subject, '@', 1) AS name, split_part(a.subject, '@', 2) AS alias,
       a.details ->> 'version' AS version, a.details
FROM audit_log a WHERE a.action = 'model_alias_set';
CREATE INDEX audit_log_model_aliases ON audit_log (subject, entry_id) WHERE action = 'model_alias_set';

-- For a service that takes up what an alias points to: appends an entry unless the latest one names this version, that
-- is, if the alias was moved in MLflow itself. Returns whether it did.
CREATE FUNCTION audit_alias_taken_up(model text, alias text, version text, details jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    latest text;
BEGIN
    -- The lock of audit_append: whoever moves an alias appends first, and commits after the alias was moved.
    PERFORM pg_advisory_xact_lock(7234019850113);
    SELECT a.details ->> 'version' INTO latest FROM audit_log a
    WHERE a.action = 'model_alias_set' AND a.subject = model || '@' || alias ORDER BY a.entry_id DESC LIMIT 1;
    IF latest IS NOT DISTINCT FROM version THEN
        RETURN false;
    END IF;
    PERFORM audit_append('mlflow', 'model_alias_set', model || '@' || alias,
        coalesce(details, '{}') || jsonb_build_object('version', version, 'version_before', latest));
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION audit_alias_taken_up(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_alias_taken_up(text, text, text, jsonb) TO fraud_api;
GRANT SELECT ON model_alias_history TO fraud_api, fraud_trainer, fraud_readonly;
