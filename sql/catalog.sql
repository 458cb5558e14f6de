-- What the catalog knows: the first row is what is installed in schema $2 (triggers are those of our functions wherever they
-- are), then comes one row a watched table, in the order of $1, their schemas, and $3, their names. JSON. Read every 25 s by the daemon,
-- so all of it is one statement and everything is found by index. The daemon's role needs no right on the tables or on their schemas,
-- which is why no name is cast to regclass: that asks for USAGE.
SELECT answer.json FROM (
SELECT 0 AS place, (SELECT json_build_object(
    'relations', (SELECT json_agg(c.relname) FROM pg_class AS c WHERE c.relnamespace = n.oid),
    'retire', (SELECT p.prosrc FROM pg_proc AS p WHERE p.pronamespace = n.oid AND p.proname = 'retire'),
    'relieve', (SELECT p.prosrc FROM pg_proc AS p WHERE p.pronamespace = n.oid AND p.proname = 'relieve'),
    'bury', (SELECT p.prosrc FROM pg_proc AS p WHERE p.pronamespace = n.oid AND p.proname = 'bury'),
    'token', (SELECT p.provolatile::text || ' ' || p.prosrc FROM pg_proc AS p WHERE p.pronamespace = n.oid AND p.proname = 'token'),
    'captures', (
      SELECT json_agg(json_build_object(
        'name', p.proname, 'mark', obj_description(p.oid, 'pg_proc'), 'config', p.proconfig, 'definer', p.prosecdef,
        'hash', encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'),
        'triggers', (
          SELECT json_agg(json_build_object(
            'relation', quote_ident(rn.nspname) || '.' || quote_ident(r.relname), 'oid', r.oid::bigint, 'name', t.tgname))
          FROM pg_trigger AS t JOIN pg_class AS r ON r.oid = t.tgrelid JOIN pg_namespace AS rn ON rn.oid = r.relnamespace
          WHERE t.tgfoid = p.oid
        )
      ) ORDER BY p.proname)
      FROM pg_proc AS p
      WHERE p.pronamespace = n.oid AND starts_with(obj_description(p.oid, 'pg_proc'), 'pgevict capture ')
    )
  )::text
  FROM (SELECT (SELECT oid FROM pg_namespace WHERE nspname = $2) AS oid) AS n) AS json
UNION ALL
SELECT w.place, json_build_object(
  'root', c.oid::bigint,
  'kind', c.relkind,
  -- query_to_xml runs its text only where Timescale's catalog is there; a plain subquery would not parse without it.
  'hypertable', CASE WHEN to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL THEN (
    SELECT position('<found>' IN query_to_xml(format(
      'SELECT 1 AS found FROM _timescaledb_catalog.hypertable WHERE schema_name = %L AND table_name = %L', hn.nspname, c.relname
    ), false, false, '')::text) > 0
    FROM pg_namespace AS hn WHERE hn.oid = c.relnamespace
  ) END,
  'columns', (SELECT json_agg(a.attname) FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'primary_key', (
    SELECT json_agg(a.attname ORDER BY k.place)
    FROM pg_index AS x CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
    WHERE x.indrelid = c.oid AND x.indisprimary
  ),
  'virtual', (
    SELECT json_object_agg(a.attname, pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attgenerated = 'v'
  ),
  'relations', (
    WITH RECURSIVE tree (oid) AS (
      SELECT c.oid UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON i.inhparent = tree.oid
    )
    SELECT json_agg(json_build_object(
      'oid', r.oid::bigint, 'name', quote_ident(n.nspname) || '.' || quote_ident(r.relname), 'kind', r.relkind,
      'filenode', pg_relation_filenode(r.oid)::bigint,
      -- ATTACH writes a new row here: a partition that left and came back between two audits is told by it.
      'joined', (SELECT string_agg(i.xmin::text, ' ' ORDER BY i.inhseqno, i.inhparent) FROM pg_inherits AS i WHERE i.inhrelid = r.oid),
      'moved', ARRAY[pg_stat_get_tuples_inserted(r.oid), pg_stat_get_tuples_updated(r.oid), pg_stat_get_tuples_deleted(r.oid)],
      'triggers', (
        SELECT json_agg(json_build_object(
          'name', t.tgname, 'schema', pn.nspname, 'function', p.proname, 'type', t.tgtype, 'enabled', t.tgenabled,
          'old', t.tgoldtable, 'new', t.tgnewtable,
          -- DISABLE and ENABLE each write a new row here, a dropped trigger comes back under another oid: one that was away between two
          -- audits is told by it.
          'made', t.oid::text || '.' || t.xmin::text))
        FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_namespace AS pn ON pn.oid = p.pronamespace
        WHERE t.tgrelid = r.oid AND t.tgname LIKE 'zz\_pgevict\_%'
      )
    ) ORDER BY r.oid <> c.oid, r.oid)
    FROM tree JOIN pg_class AS r ON r.oid = tree.oid JOIN pg_namespace AS n ON n.oid = r.relnamespace
  )
)::text
FROM unnest($1::text[], $3::text[]) WITH ORDINALITY AS w (schema, name, place)
LEFT JOIN pg_namespace AS wn ON wn.nspname = w.schema
LEFT JOIN pg_class AS c ON c.relnamespace = wn.oid AND c.relname = w.name
) AS answer ORDER BY answer.place
