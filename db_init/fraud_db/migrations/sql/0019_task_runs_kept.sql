-- Task runs are kept for two weeks: data quality compares with the last one, and DAGs that run every few seconds
-- leave a hundred thousand rows a day. At most 50,000 at once, so that a table that has grown cannot make it fail.
-- Gives how many were removed.
CREATE FUNCTION forget_task_runs() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    removed integer;
BEGIN
    DELETE FROM airflow_task_metrics WHERE id IN (
        SELECT id FROM airflow_task_metrics WHERE ended_at < now() - interval '14 days'
        ORDER BY ended_at LIMIT 50000
    );
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;
GRANT EXECUTE ON FUNCTION forget_task_runs() TO fraud_watch;
