-- What is installed in schema $1: JSON. Triggers are those of our functions wherever they are.
SELECT json_build_object(
  'relations', (SELECT json_agg(c.relname) FROM pg_class AS c WHERE c.relnamespace = n.oid),
  'retire', (SELECT p.prosrc FROM pg_proc AS p WHERE p.pronamespace = n.oid AND p.proname = 'retire'),
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
FROM (SELECT (SELECT oid FROM pg_namespace WHERE nspname = $1) AS oid) AS n
