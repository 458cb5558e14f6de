-- Removes the rest, after leftovers.sql has removed every capture. Runs as it stands. A schema that was there before pgevict,
-- or that holds something else, stays.
DO $pgevict$
DECLARE
  ns constant text := 'pgevict';
  daemon constant text := 'pgevict';
  home constant oid := pg_catalog.to_regnamespace(pg_catalog.quote_ident(ns));
BEGIN
  IF home IS NULL THEN
    RETURN;
  END IF;
  DROP FUNCTION IF EXISTS pgevict.retire(pg_snapshot, integer), pgevict.bury(bigint[], bigint[], text[]), pgevict.token(), pgevict.relieve();
  DROP TABLE IF EXISTS pgevict.journal, pgevict.poison, pgevict.beacon, pgevict.floor, pgevict.sentinel, pgevict.history, pgevict.probe, pgevict.layout;
  DROP SEQUENCE IF EXISTS pgevict.lost;
  IF pg_catalog.starts_with(pg_catalog.obj_description(home, 'pg_namespace'), 'pgevict: made by')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = home)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = home)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace = home) THEN
    EXECUTE 'DROP SCHEMA ' || pg_catalog.quote_ident(ns);
  ELSIF daemon <> current_user AND EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = daemon) THEN
    EXECUTE 'REVOKE USAGE ON SCHEMA ' || pg_catalog.quote_ident(ns) || ' FROM ' || pg_catalog.quote_ident(daemon);
  END IF;
END
$pgevict$;
