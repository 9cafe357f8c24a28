-- What it takes to put a dead letter back, and to tell the topics of one name apart.

ALTER TABLE dead_letters
    ADD COLUMN topic_id varchar(40) NOT NULL DEFAULT '',
    ADD COLUMN record_timestamp_ms bigint,
    ADD COLUMN redriven_from text,
    ADD COLUMN redriven_at timestamptz;
ALTER TABLE dead_letters ALTER COLUMN topic_id DROP DEFAULT;

UPDATE dead_letters d SET topic_id = s.topic_id
FROM stream_offsets s WHERE s.topic = d.topic AND s.partition = d.partition;

-- A topic that was deleted and made again has the same offsets again.
ALTER TABLE dead_letters
    DROP CONSTRAINT dead_letters_once,
    ADD CONSTRAINT dead_letters_once UNIQUE (topic, topic_id, partition, record_offset);

GRANT UPDATE (redriven_at) ON dead_letters TO fraud_streaming;
