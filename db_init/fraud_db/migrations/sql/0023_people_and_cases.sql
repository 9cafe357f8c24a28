-- People who log in, and what they work on: cases.

CREATE TABLE people (
    username varchar(64) PRIMARY KEY CHECK (username ~ '^[a-z0-9][a-z0-9._@-]*$'),
    display_name varchar(100) NOT NULL,
    password_hash text NOT NULL,
    role varchar(10) NOT NULL CHECK (role IN ('analyst', 'lead', 'admin')),
    active boolean NOT NULL DEFAULT true,
    time_zone varchar(64),
    failed_logins smallint NOT NULL DEFAULT 0,
    locked_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    password_changed_at timestamptz NOT NULL DEFAULT now()
);

-- Of the cookie only the SHA-256 is kept: who reads the table cannot use a session.
CREATE TABLE sessions (
    session_hash bytea PRIMARY KEY,
    username varchar(64) NOT NULL REFERENCES people (username),
    csrf_token text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_expires_at ON sessions (expires_at);
CREATE INDEX sessions_username ON sessions (username);

-- flagged: the decision was review or block; sampled: drawn at random among approved transactions; disputed: reports
-- about it contradict each other; opened: a person asked for it.
ALTER TABLE cases
    ADD COLUMN origin varchar(12) NOT NULL DEFAULT 'flagged'
        CONSTRAINT cases_origin CHECK (origin IN ('flagged', 'sampled', 'disputed', 'opened')),
    -- The score times the amount: what is expected to be lost.
    ADD COLUMN priority double precision NOT NULL DEFAULT 0,
    -- The chance with which it was drawn, of whose inverse it stands for so many transactions.
    ADD COLUMN sampling_share double precision
        CONSTRAINT cases_sampling_share CHECK (sampling_share > 0 AND sampling_share <= 1),
    ADD COLUMN due_at timestamptz,
    -- An assigned case is open again after this time; null holds it until it is handed over.
    ADD COLUMN locked_until timestamptz,
    ADD COLUMN escalated boolean NOT NULL DEFAULT false,
    ADD COLUMN decided_by varchar(64),
    ADD COLUMN label_id uuid,
    ADD CONSTRAINT cases_sampled CHECK ((origin = 'sampled') <= (sampling_share IS NOT NULL)),
    ADD CONSTRAINT cases_closed CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
    ADD CONSTRAINT cases_assigned CHECK ((state = 'assigned') <= (assignee IS NOT NULL));
DROP INDEX cases_state;
CREATE INDEX cases_queue ON cases (escalated DESC, priority DESC, case_id) WHERE state <> 'closed';
CREATE INDEX cases_closed_at ON cases (closed_at) WHERE state = 'closed';

-- What happened to a case, by whom: opened, taken, released, skipped, handed_over, escalated, labelled, undone,
-- noted, reopened.
CREATE TABLE case_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    case_id bigint NOT NULL REFERENCES cases (case_id),
    occurred_at timestamptz NOT NULL DEFAULT now(),
    actor varchar(64) NOT NULL,
    kind varchar(20) NOT NULL,
    details jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX case_events_case ON case_events (case_id, event_id);

-- Who reported it, where a person did: two analysts are two voices, the same one twice is one.
ALTER TABLE labels ADD COLUMN reported_by varchar(64);

GRANT SELECT ON case_events TO fraud_readonly;
