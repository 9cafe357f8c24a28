-- Who may speak to the API, and the chain of what was done.

CREATE TABLE clients (
    client_id varchar(64) PRIMARY KEY,
    secret_hash text NOT NULL,
    scopes text[] NOT NULL DEFAULT '{}',
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    rotated_at timestamptz
);

CREATE TABLE signing_keys (
    kid varchar(64) PRIMARY KEY,
    algorithm varchar(10) NOT NULL,
    public_key text NOT NULL,
    private_key_encrypted text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    expires_at timestamptz
);

CREATE TABLE revoked_tokens (
    jti varchar(64) PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX revoked_tokens_expires_at ON revoked_tokens (expires_at);

CREATE TABLE audit_log (
    entry_id bigint PRIMARY KEY,
    recorded_at timestamptz NOT NULL,
    actor text NOT NULL,
    db_role text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    details jsonb NOT NULL,
    previous_hash bytea NOT NULL,
    entry_hash bytea NOT NULL
);
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The chain's end, so that entries cut off at the end are missed as well. One row.
CREATE TABLE audit_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    entry_id bigint NOT NULL,
    entry_hash bytea NOT NULL
);
INSERT INTO audit_head (entry_id, entry_hash) VALUES (0, sha256(''));

CREATE FUNCTION audit_hash(entry audit_log) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(entry.previous_hash || convert_to(jsonb_build_array(
        entry.entry_id,
        to_char(entry.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        entry.actor, entry.db_role, entry.action, entry.subject, entry.details)::text, 'UTF8'))
$$;

-- The only way to write the chain. `actor` is what the caller says, db_role who they logged in as.
CREATE FUNCTION audit_append(actor text, action text, subject text, details jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    entry audit_log;
BEGIN
    PERFORM pg_advisory_xact_lock(7234019850113);
    SELECT head.entry_id + 1, head.entry_hash INTO STRICT entry.entry_id, entry.previous_hash FROM audit_head head;
    entry.recorded_at := clock_timestamp();
    entry.actor := actor;
    entry.db_role := session_user;
    entry.action := action;
    entry.subject := subject;
    entry.details := coalesce(details, '{}');
    entry.entry_hash := audit_hash(entry);
    INSERT INTO audit_log SELECT entry.*;
    UPDATE audit_head SET entry_id = entry.entry_id, entry_hash = entry.entry_hash;
    RETURN entry.entry_id;
END $$;

-- The first entry that breaks the chain and why; no row when it is whole.
CREATE FUNCTION audit_verify() RETURNS TABLE (broken_entry bigint, problem text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH chain AS (
        SELECT a.entry_id, a.entry_hash, a.previous_hash, audit_hash(a) AS computed,
               lag(a.entry_id, 1, 0::bigint) OVER (ORDER BY a.entry_id) AS before_id,
               lag(a.entry_hash, 1, sha256('')) OVER (ORDER BY a.entry_id) AS before_hash
        FROM audit_log a
    ), findings AS (
        SELECT entry_id, CASE
            WHEN entry_id <> before_id + 1 THEN 'entries before it are missing'
            WHEN previous_hash <> before_hash THEN 'does not follow the entry before it'
            WHEN entry_hash <> computed THEN 'content does not match its hash'
        END AS problem FROM chain
        UNION ALL
        SELECT h.entry_id, 'the end of the chain is not the last entry'
        FROM audit_head h
        LEFT JOIN (SELECT entry_id, entry_hash FROM audit_log ORDER BY entry_id DESC LIMIT 1) last ON true
        WHERE (h.entry_id, h.entry_hash)
              IS DISTINCT FROM (coalesce(last.entry_id, 0), coalesce(last.entry_hash, sha256('')))
        UNION ALL
        SELECT 0, 'the chain''s end is unknown' WHERE NOT EXISTS (SELECT FROM audit_head)
    )
    SELECT entry_id, problem FROM findings WHERE problem IS NOT NULL ORDER BY entry_id LIMIT 1
$$;
