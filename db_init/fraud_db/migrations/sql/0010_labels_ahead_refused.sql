-- What is known at a time that has not come cannot be said: silence until then would count as legitimate.

-- Called STABLE, which it is within any one statement that it lets pass, so that labels_as_of can be inlined.
-- By the clock, not by now(): the functions below ask for the moment at which they got their locks.
CREATE FUNCTION has_come(t timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF t > clock_timestamp() THEN
        RAISE EXCEPTION 'labels_as_of: % has not come yet, now is %: give a moment that has passed',
            t, date_trunc('second', clock_timestamp())
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION has_come(timestamptz) TO fraud_trainer, fraud_readonly;

-- As in 0002, and refuses the future. The condition has no column in it: it is looked at once, not for each row.
CREATE OR REPLACE FUNCTION labels_as_of(t timestamptz)
RETURNS TABLE (transaction_id varchar, label smallint, source varchar, reported_at timestamptz, mature boolean)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT explicit.transaction_id, explicit.label, explicit.source, explicit.reported_at, explicit.mature
    FROM (
        SELECT DISTINCT ON (l.transaction_id)
               l.transaction_id, l.label, l.source, l.reported_at, l.matures_at <= t AS mature
        FROM public.labels l JOIN public.label_sources s ON s.source = l.source
        WHERE l.reported_at <= t
        ORDER BY l.transaction_id, s.precedence DESC, l.reported_at DESC, l.label_id DESC
    ) explicit
    WHERE public.has_come(t)
    UNION ALL
    SELECT x.transaction_id, 0::smallint, s.source, x.event_time + s.maturity, true
    FROM public.transactions x JOIN public.label_sources s ON s.source = 'implied'
    WHERE public.has_come(t) AND x.event_time <= t - s.maturity
      AND NOT EXISTS (SELECT FROM public.labels l
                      WHERE l.transaction_id = x.transaction_id AND l.reported_at <= t)
      AND NOT EXISTS (SELECT FROM public.predictions p
                      WHERE p.transaction_id = x.transaction_id AND p.deciding AND p.decision = 'block')
$$;
