-- What `check` needs to know of the server and of the role's rights: one row. Runs as it stands; for another schema
-- the name in quotes is replaced.
SELECT
  pg_catalog.current_setting('max_prepared_transactions')::int > 0 AS prepared_transactions,
  pg_catalog.current_setting('transaction_read_only') = 'on' AS read_only,
  n.oid IS NOT NULL AS has_schema,
  coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false) AS may_use,
  coalesce((
    SELECT bool_and(pg_catalog.has_table_privilege(c.oid, 'SELECT')) FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = n.oid AND c.relname IN ('journal', 'layout', 'beacon', 'floor', 'sentinel')
  ), true) AS may_read,
  coalesce(pg_catalog.pg_get_userbyid(n.nspowner), current_user)::text AS owner,
  current_user::text AS role
FROM (VALUES ('pgevict')) AS wanted (schema)
LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = wanted.schema;
