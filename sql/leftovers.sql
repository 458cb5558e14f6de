-- Removes the captures of tables that the configuration does not name. Runs as it stands: it then removes every capture.
DO $pgevict$
DECLARE
  ns constant text := 'pgevict';
  wanted constant text[] := ARRAY[]::text[];
  waited constant text := pg_catalog.current_setting('lock_timeout');
  callee record;
  trig record;
BEGIN
  PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
  FOR callee IN
    SELECT p.oid, p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = ns AND p.proname <> ALL (wanted) AND p.pronargs = 0
      AND pg_catalog.starts_with(pg_catalog.obj_description(p.oid, 'pg_proc'), 'pgevict capture ')
  LOOP
    FOR trig IN
      SELECT t.oid, t.tgname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
      FROM pg_catalog.pg_trigger AS t
      JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE t.tgfoid = callee.oid ORDER BY 3, 2
    LOOP
      -- Timescale's clones on chunks go with the trigger of their hypertable.
      CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.oid = trig.oid);
      EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(trig.tgname) || ' ON ' || trig.name;
    END LOOP;
    EXECUTE 'DROP FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(callee.proname) || '()';
  END LOOP;
  PERFORM pg_catalog.set_config('lock_timeout', waited, true);
END
$pgevict$;
