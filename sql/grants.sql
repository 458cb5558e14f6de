-- Gives the daemon's role what it reads and writes, where it exists and is not the one who installs. Runs as it stands.
DO $pgevict$
DECLARE
  ns constant text := 'pgevict';
  daemon constant text := 'pgevict';
  wish record;
BEGIN
  IF daemon = current_user OR NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = daemon) THEN
    RETURN;
  END IF;
  IF NOT pg_catalog.has_schema_privilege(daemon, ns, 'USAGE') THEN
    EXECUTE 'GRANT USAGE ON SCHEMA ' || pg_catalog.quote_ident(ns) || ' TO ' || pg_catalog.quote_ident(daemon);
  END IF;
  FOR wish IN
    SELECT w.relation, w.privilege, c.relkind, c.oid
    FROM (VALUES
      ('layout', 'SELECT'), ('lost', 'SELECT'), ('journal', 'SELECT'), ('poison', 'SELECT'), ('floor', 'SELECT'), ('beacon', 'SELECT'), ('beacon', 'INSERT'),
      ('sentinel', 'SELECT'), ('sentinel', 'INSERT'), ('history', 'SELECT'), ('history', 'INSERT'), ('probe', 'SELECT'), ('probe', 'UPDATE')
    ) AS w (relation, privilege)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = ns
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.relation
  LOOP
    IF wish.relkind = 'S' AND NOT pg_catalog.has_sequence_privilege(daemon, wish.oid, wish.privilege)
      OR wish.relkind <> 'S' AND NOT pg_catalog.has_table_privilege(daemon, wish.oid, wish.privilege) THEN
      EXECUTE 'GRANT ' || wish.privilege || ' ON ' || CASE wish.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
        || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(wish.relation) || ' TO ' || pg_catalog.quote_ident(daemon);
    END IF;
  END LOOP;
  FOR wish IN
    SELECT p.oid FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = ns AND p.proname IN ('retire', 'bury') AND NOT pg_catalog.has_function_privilege(daemon, p.oid, 'EXECUTE')
  LOOP
    EXECUTE 'GRANT EXECUTE ON FUNCTION ' || wish.oid::regprocedure::text || ' TO ' || pg_catalog.quote_ident(daemon);
  END LOOP;
END
$pgevict$;
