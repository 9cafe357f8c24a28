-- Which session was found holding a partition's lock while a record waited, at which position, since when;
-- and how many holders were ended at this position without its moving. Null: nothing was ever read.
CREATE TABLE stream_stalls (
    topic varchar(249) NOT NULL,
    partition integer NOT NULL CHECK (partition >= 0),
    next_offset bigint,
    holder_pid integer NOT NULL,
    holder_since timestamptz NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended integer NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
);
GRANT SELECT, INSERT, UPDATE ON stream_stalls TO fraud_streaming;
GRANT SELECT ON stream_stalls TO fraud_readonly;
