-- A release of mode `http` is on a replica of the API of its own, to which the gateway gives a share of the requests;
-- before that it scores all of them in parallel, as a shadow.

ALTER TABLE deployments
    DROP CONSTRAINT deployments_state,
    DROP CONSTRAINT deployments_ended,
    ADD CONSTRAINT deployments_mode CHECK (mode IN ('canary', 'http')),
    ADD CONSTRAINT deployments_state CHECK (state IN ('validating', 'validated', 'shadow', 'canary', 'widened',
        'promoted', 'refused', 'rolled_back', 'withdrawn', 'aborted') AND (mode = 'http' OR state <> 'shadow')),
    ADD CONSTRAINT deployments_ended CHECK ((ended_at IS NULL)
        = (state IN ('validating', 'validated', 'shadow', 'canary', 'widened')));
