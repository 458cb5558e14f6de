-- What `check` needs to know of every relation that an application can have: one row each. Runs as it stands; for
-- another schema the name in quotes is replaced. The owner of pgevict's functions is the owner of its schema, and
-- before the migration whoever runs this.
WITH installer AS (
  SELECT r.oid, r.rolsuper OR r.rolbypassrls AS sees_all
  FROM pg_catalog.pg_roles AS r
  WHERE r.oid = coalesce(
    (SELECT n.nspowner FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'pgevict'),
    (SELECT u.oid FROM pg_catalog.pg_roles AS u WHERE u.rolname = current_user)
  )
)
SELECT
  n.nspname::text AS schema,
  c.relname::text AS name,
  c.relkind::text AS kind,
  c.relrowsecurity AND NOT i.sees_all
    AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(i.oid, c.relowner, 'USAGE')) AS rows_hidden,
  pg_catalog.has_schema_privilege(i.oid, n.oid, 'USAGE')
    AND pg_catalog.has_any_column_privilege(i.oid, c.oid, 'SELECT') AS readable,
  ARRAY(
    SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
  ) AS columns,
  ARRAY(
    SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
  ) AS types,
  ARRAY(
    SELECT a.attname::text
    FROM pg_catalog.pg_index AS x
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY (x.indkey)
    WHERE x.indrelid = c.oid AND x.indisprimary
  ) AS primary_key
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN installer AS i
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
ORDER BY 1, 2;
