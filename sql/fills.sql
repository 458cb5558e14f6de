-- What the fill contract reads (docs/fills.md). Runs as it stands, any number of times, after schema.sql.

-- Insert only: the newest row names the history that this database lives in. The daemon adds one when the server crashed, was promoted or
-- restored, so that what was read before is never stored after. Logged, unlike the sentinel: applications read it on standbys too.
CREATE TABLE IF NOT EXISTS pgevict.history (
  n  bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT history_pkey PRIMARY KEY,
  id uuid        NOT NULL DEFAULT gen_random_uuid(),
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- token(): what the statement that calls it sees, as HISTORY/SNAPSHOT. NULL in a transaction that has written, for it sees what nobody
-- else may ever see, and before the daemon guards anything. STABLE, never VOLATILE: it must speak of the calling statement's snapshot.
-- A standby does not list what runs on its primary, so only what is below xmin counts there.
DO $pgevict$
DECLARE
  body constant text := $body$
SELECT h.id::text || '/' || CASE WHEN pg_is_in_recovery() THEN pg_snapshot_xmin(s.now)::text || ':' || pg_snapshot_xmin(s.now)::text || ':'
  ELSE s.now::text END
FROM (SELECT pg_current_snapshot() AS now) AS s, (SELECT id FROM pgevict.history ORDER BY n DESC LIMIT 1) AS h
WHERE pg_is_in_recovery() OR pg_current_xact_id_if_assigned() IS NULL
$body$;
  signature constant text := quote_ident('pgevict') || '.token()';
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_catalog.pg_proc WHERE oid = to_regprocedure(signature) AND prosrc = body AND provolatile = 's'
  ) THEN
    -- PARALLEL RESTRICTED: the caller's plan may stay parallel.
    EXECUTE 'CREATE OR REPLACE FUNCTION ' || signature || ' RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER'
      || ' SET search_path = pg_catalog, pg_temp AS ' || quote_literal(body);
    -- It tells nothing but transaction ids. Who may call it is decided by USAGE on the schema, which nobody is given here.
    EXECUTE 'GRANT EXECUTE ON FUNCTION ' || signature || ' TO PUBLIC';
  END IF;
END
$pgevict$;
