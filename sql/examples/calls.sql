-- Made by pgevict 0.1.0: installs or mends everything; safe to run again.

-- schema pgevict
DO $pgevict$
BEGIN
  IF to_regnamespace(quote_ident('pgevict')) IS NULL THEN
    CREATE SCHEMA pgevict;
    -- What `sql down` may remove is what carries this mark.
    COMMENT ON SCHEMA pgevict IS 'pgevict: made by pgevict sql up';
  END IF;
END
$pgevict$;

-- The layouts that journal rows refer to: rows stay readable after the configuration has moved on.
CREATE TABLE IF NOT EXISTS pgevict.layout (
  id           bigint      CONSTRAINT layout_pkey PRIMARY KEY,
  tbl          text        NOT NULL,
  spec         text        NOT NULL,
  installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row, which the daemon changes every few seconds: the change must come back by the way of every other one. No index covers `nonce` and the
-- page has room, so an update stays on it and leaves nothing for vacuum.
CREATE TABLE IF NOT EXISTS pgevict.probe (
  one   boolean CONSTRAINT probe_pkey PRIMARY KEY DEFAULT true CONSTRAINT probe_one CHECK (one),
  nonce text    NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_analyze_threshold = 100000, vacuum_truncate = off);
INSERT INTO pgevict.probe (nonce) SELECT '' WHERE NOT EXISTS (SELECT FROM pgevict.probe);

-- The last layer of a capture: a sequence is not transactional, so it moves when nothing else could be written.
CREATE SEQUENCE IF NOT EXISTS pgevict.lost;

-- journal
CREATE TABLE IF NOT EXISTS pgevict.journal (
  xid     xid8        NOT NULL DEFAULT pg_current_xact_id(),
  -- A session takes 32 numbers at once: the sequence is one page, and all writers would wait for it. One transaction is one
  -- session's, so its rows are in order all the same.
  seq     bigint      GENERATED ALWAYS AS IDENTITY (CACHE 32),
  at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  layout  bigint      NOT NULL,
  tbl     text        NOT NULL,
  kind    "char"      NOT NULL,
  op      "char"      NOT NULL,
  classes integer[],
  tuples  text[],
  note    text,
  CONSTRAINT journal_pkey PRIMARY KEY (xid, seq)
) WITH (
  -- Vacuum by count, not by share: the table is small and turns over fast.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 50000,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 50000,
  autovacuum_vacuum_cost_delay = 0,
  -- Truncating the tail takes ACCESS EXCLUSIVE, which every writer would wait for.
  vacuum_truncate = off
);

-- Insert only: what was committed before row n is durable if row n is. An updated row would slow down under a pinned horizon.
CREATE TABLE IF NOT EXISTS pgevict.beacon (
  n    bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT beacon_pkey PRIMARY KEY,
  at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  snap pg_snapshot
) WITH (vacuum_truncate = off);

-- One row: what is visible in `snap` may have been retired from the journal.
CREATE TABLE IF NOT EXISTS pgevict.floor (
  one  boolean     CONSTRAINT floor_pkey PRIMARY KEY DEFAULT true CONSTRAINT floor_one CHECK (one),
  snap pg_snapshot NOT NULL
);

-- One row in an unlogged table: gone after a crash, an immediate stop and a promotion.
CREATE UNLOGGED TABLE IF NOT EXISTS pgevict.sentinel (
  nonce uuid CONSTRAINT sentinel_pkey PRIMARY KEY DEFAULT gen_random_uuid()
);

-- retire(snap, at_most): deletes up to so many journal rows visible in snap, and raises the floor in the same transaction,
-- so that no reader can miss a row without seeing that it may. Beacons that old go too.
DO $pgevict$
DECLARE
  body constant text := $body$
DECLARE
  gone bigint;
BEGIN
  IF at_most <= 0 THEN
    RETURN 0;
  END IF;
  WITH old AS (
    SELECT j.xid, j.seq FROM pgevict.journal AS j
    WHERE j.xid < pg_snapshot_xmax(retire.snap) AND pg_visible_in_snapshot(j.xid, retire.snap)
    ORDER BY j.xid, j.seq LIMIT at_most
  )
  DELETE FROM pgevict.journal AS j USING old WHERE j.xid = old.xid AND j.seq = old.seq;
  GET DIAGNOSTICS gone = ROW_COUNT;
  IF gone > 0 THEN
    -- The floor only rises. Snapshots of a primary are ordered by inclusion, so these two numbers order them.
    INSERT INTO pgevict.floor AS f (snap) VALUES (retire.snap)
    ON CONFLICT (one) DO UPDATE SET snap = excluded.snap
    WHERE (pg_snapshot_xmax(f.snap), -(SELECT count(*) FROM pg_snapshot_xip(f.snap)))
      < (pg_snapshot_xmax(excluded.snap), -(SELECT count(*) FROM pg_snapshot_xip(excluded.snap)));
  END IF;
  -- Of the beacons older than what may be retired the newest stays: somebody may ask for it.
  DELETE FROM pgevict.beacon AS b WHERE b.n < (
    SELECT max(older.n) FROM pgevict.beacon AS older WHERE pg_snapshot_xmax(older.snap) < pg_snapshot_xmax(retire.snap)
  );
  RETURN gone;
END
$body$;
  signature constant text := quote_ident('pgevict') || '.retire';
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_catalog.pg_proc
    WHERE oid = to_regprocedure(signature || '(pg_snapshot,integer)') AND prosrc = body
  ) THEN
    EXECUTE 'CREATE OR REPLACE FUNCTION ' || signature || '(snap pg_snapshot, at_most integer) RETURNS bigint'
      || ' LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS ' || quote_literal(body);
    EXECUTE 'REVOKE ALL ON FUNCTION ' || signature || '(pg_snapshot, integer) FROM PUBLIC';
  END IF;
END
$pgevict$;

-- bound of a journal that nobody reads
DO $pgevict$
DECLARE
  body constant text := $body$
DECLARE
  -- What a daemon would keep while Redis is away: journal_max_bytes.
  most constant bigint := 1000000000;
  journal constant oid := to_regclass(quote_ident('pgevict') || '.journal');
  layouts constant oid := to_regclass(quote_ident('pgevict') || '.layout');
  live bigint;
  seen pg_snapshot;
BEGIN
  IF pg_total_relation_size(journal) <= most THEN
    RETURN 0;
  END IF;
  -- Above this level the floor's row could make the application's transaction fail. Others will come.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RETURN 0;
  END IF;
  -- A daemon that works has retention of its own. Beacons come every 30 s, also while Redis is away, but not during a first flush, which is
  -- why the leader's lock counts too: a floor that rises beside it would flush again and again. No lock is taken to ask; it would look like a leader.
  IF (SELECT at FROM pgevict.beacon ORDER BY n DESC LIMIT 1) > clock_timestamp() - interval '10 minutes' OR EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1885431414 AND objid = layouts AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  ) THEN
    RETURN 0;
  END IF;
  -- As in house.sql: the file never shrinks, so what is in it counts.
  live := pg_stat_get_live_tuples(journal);
  IF live > 0 AND live * (SELECT 140 + avg(coalesce(pg_column_size(j.tuples), 0)) FROM (
    SELECT tuples FROM pgevict.journal ORDER BY xid DESC, seq DESC LIMIT 100
  ) AS j) <= most THEN
    RETURN 0;
  END IF;
  -- Where vacuum is kept from its work deleting gives nothing back, and whoever deletes walks over all that is dead.
  IF pg_stat_get_dead_tuples(journal) > 1000000 THEN
    RETURN 0;
  END IF;
  -- One at a time: the floor's row is locked until the writer's transaction ends, and nobody shall wait for it.
  IF NOT pg_try_advisory_xact_lock(1885431415, journal::integer) THEN
    RETURN 0;
  END IF;
  -- A transaction's own snapshot counts the transaction itself as over as soon as a younger one is; to everybody else it is open.
  SELECT (least(pg_snapshot_xmin(now), own)::text || ':' || pg_snapshot_xmax(now)::text || ':' || coalesce((
      SELECT string_agg(x::text, ',' ORDER BY x)
      FROM (SELECT pg_snapshot_xip(now) UNION SELECT own WHERE own < pg_snapshot_xmax(now)) AS open (x)
    ), ''))::pg_snapshot INTO seen
  FROM (SELECT pg_current_snapshot(), pg_current_xact_id()) AS one (now, own);
  -- Four times as many as came since the last time, some 5 ms.
  RETURN pgevict.retire(seen, 1000);
END
$body$;
  signature constant text := quote_ident('pgevict') || '.relieve()';
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_catalog.pg_proc WHERE oid = to_regprocedure(signature) AND prosrc = body AND 'lock_timeout=250ms' = ANY (proconfig)
  ) THEN
    EXECUTE 'CREATE OR REPLACE FUNCTION ' || signature || ' RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER'
      || ' SET search_path = pg_catalog, pg_temp SET lock_timeout = ''250ms'' SET enable_seqscan = off SET enable_bitmapscan = off AS ' || quote_literal(body);
    EXECUTE 'REVOKE ALL ON FUNCTION ' || signature || ' FROM PUBLIC';
  END IF;
END
$pgevict$;

-- copies of unreadable rows
CREATE TABLE IF NOT EXISTS pgevict.poison (
  xid       xid8        NOT NULL,
  seq       bigint      NOT NULL,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  why       text        NOT NULL,
  copied    jsonb       NOT NULL,
  CONSTRAINT poison_pkey PRIMARY KEY (xid, seq)
);

-- bury(xids, seqs, whys): copies these rows of the journal, long values cut, each row once. The newest 1000 copies stay, for 30 days at most.
DO $pgevict$
DECLARE
  body constant text := $body$
DECLARE
  copies integer;
BEGIN
  INSERT INTO pgevict.poison AS p (xid, seq, why, copied)
  SELECT j.xid, j.seq, left(w.why, 1000), jsonb_build_object(
    'at', j.at::text, 'layout', j.layout, 'tbl', left(j.tbl, 1000), 'kind', j.kind::text, 'op', j.op::text, 'note', left(j.note, 1000),
    'classes', CASE WHEN pg_column_size(j.classes) > 65536 THEN pg_column_size(j.classes)::text || ' bytes' ELSE left(j.classes::text, 1000) END,
    'tuples', CASE WHEN pg_column_size(j.tuples) > 65536 THEN pg_column_size(j.tuples)::text || ' bytes, compressed' ELSE left(j.tuples::text, 8000) END)
  FROM unnest(bury.xids, bury.seqs, bury.whys) AS w (xid, seq, why)
  JOIN pgevict.journal AS j ON j.xid = w.xid::text::xid8 AND j.seq = w.seq
  ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS copies = ROW_COUNT;
  DELETE FROM pgevict.poison AS p WHERE p.at < clock_timestamp() - interval '30 days'
    OR (p.xid, p.seq) IN (SELECT o.xid, o.seq FROM pgevict.poison AS o ORDER BY o.at DESC, o.xid DESC, o.seq DESC OFFSET 1000);
  RETURN copies;
END
$body$;
  signature constant text := quote_ident('pgevict') || '.bury';
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_catalog.pg_proc
    WHERE oid = to_regprocedure(signature || '(bigint[],bigint[],text[])') AND prosrc = body
  ) THEN
    EXECUTE 'CREATE OR REPLACE FUNCTION ' || signature || '(xids bigint[], seqs bigint[], whys text[]) RETURNS integer'
      || ' LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS ' || quote_literal(body);
    EXECUTE 'REVOKE ALL ON FUNCTION ' || signature || '(bigint[], bigint[], text[]) FROM PUBLIC';
  END IF;
END
$pgevict$;

-- token of the fill contract
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

-- capture of table calls
DO $pgevict_table$
DECLARE
  ns constant text := 'pgevict';
  target constant text := '"public"."calls"';
  suffix constant text := 'b205cea3';
  layout_id constant bigint := 7095359158514679516;
  layout_tbl constant text := 'calls';
  layout_spec constant text := '{"v": 1,"schema": "public","table": "calls","always": false,"closed": false,"classes": [{"ops": "iud","columns": ["agent_id","cost_cents","duration_seconds","status","user_id"],"when": [],"values": [{"column": "user_id","lookup": null}],"edges": [{"cache": "user_dashboard","holes": {"user_id": 0},"via": null}]},{"ops": "iud","columns": ["agent_id","cost_cents","duration_seconds","status","user_id"],"when": [],"values": [{"column": "agent_id","lookup": null}],"edges": [{"cache": "agent_performance","holes": {"agent_id": 0},"via": null}]},{"ops": "iud","columns": ["user_id"],"when": [],"values": [{"column": "user_id","lookup": null}],"edges": [{"cache": "lead_analytics","holes": {"user_id": 0},"via": ["public","lead_analytics"]}]}]}';
  needed constant text[] := ARRAY['agent_id', 'cost_cents', 'duration_seconds', 'status', 'user_id']::text[];
  -- Functions, and per function: what makes it, the SHA-256 of its source, the mark that `sql diff` compares, and what it pins, one a line.
  functions constant text[] := ARRAY['capture_calls_b205cea3']::text[];
  definitions constant text[] := ARRAY[$definition$CREATE OR REPLACE FUNCTION pgevict."capture_calls_b205cea3"() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
AS $pgevict$
#variable_conflict use_column
-- The queries are static: a column that is dropped must not be found among the variables.
DECLARE
  pgevict_op pg_catalog."char";
  pgevict_one pg_catalog.bool;
  pgevict_count pg_catalog.int8;
  pgevict_bytes pg_catalog.int8;
  pgevict_array pg_catalog.text[];
  pgevict_classes pg_catalog.text[];
  pgevict_journal pg_catalog.oid;
  pgevict_written pg_catalog.oid;
  -- Whether the daemon sleeps; NULL while nobody has looked.
  pgevict_ring pg_catalog.bool;
  -- Whether to look how large the journal is.
  pgevict_look pg_catalog.bool;
  pgevict_failure pg_catalog.text;
  -- hot
  -- What the caller had set.
  pgevict_kept pg_catalog.text[];
  -- end hot
  -- Rows of at most 1000 tuples and about 64 kB; a class past 50000 tuples or with a value over 1 MiB goes whole.
  pgevict_cut constant pg_catalog.text := $sql$
WITH tuple AS MATERIALIZED (
  SELECT q.tuple, q.tuple[1]::integer AS class, octet_length(array_to_string(q.tuple, '')) AS size
  FROM (pgevict_tuples) AS q
), sized AS MATERIALIZED (
  SELECT tuple, CASE WHEN class < 0 THEN -class - 1 ELSE class END AS class, size,
    CASE WHEN size > 1048576 THEN (SELECT max(octet_length(value)) FROM unnest(tuple) AS value) ELSE 0 END AS widest
  FROM tuple
), too_much AS (
  SELECT class FROM sized GROUP BY class HAVING count(*) > 50000 OR max(widest) > 1048576
), whole AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, classes)
  SELECT 7095359158514679516, 'calls', 'w', $1, array_agg(class ORDER BY class) FROM too_much HAVING count(*) > 0
  RETURNING tableoid
), pieces AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples)
  SELECT 7095359158514679516, 'calls', 'r', $1, array_agg(tuple) FROM (
    SELECT tuple, (row_number() OVER running - 1) / 1000 AS by_count, sum(size) OVER running / 65536 AS by_size
    FROM sized WHERE class NOT IN (SELECT class FROM too_much)
    WINDOW running AS (ROWS UNBOUNDED PRECEDING)
  ) AS piece GROUP BY by_count, by_size
  RETURNING tableoid
)
SELECT tableoid FROM whole UNION ALL SELECT tableoid FROM pieces LIMIT 1
$sql$;
BEGIN
  -- hot
  -- One row, as most statements change, whose values read the same under all settings: nothing is pinned for it, which would cost
  -- half as much as the rest. Whoever calls has a `search_path` of his own, so every name and operator here, above and in the bell says
  -- whose it is. Either this writes the row, or it does nothing and what follows does all of it. Each query answers NULL where there is
  -- nothing to write (also for no row at all), '{}' where a value's text depends on settings, and fails where there are two rows. What it
  -- costs PostgreSQL is to set the query up, not to run it: a condition that asks for a second row would cost a tenth of the trigger. (LIMIT:
  -- a plan made for a large statement would cost so much that every later run of it in the session were compiled, JIT.)
  BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT (SELECT CASE WHEN n.pgevict_there AND pg_catalog.pg_typeof(n."agent_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) AND pg_catalog.pg_typeof(n."user_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    CASE WHEN ROW(o."agent_id", o."cost_cents", o."duration_seconds", o."status", o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."agent_id", n."cost_cents", n."duration_seconds", n."status", n."user_id")::pg_catalog.record THEN CASE WHEN ROW(o."agent_id", o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."agent_id", n."user_id")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, o."agent_id"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."agent_id"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."agent_id"::pg_catalog.text]] END END
    OPERATOR(pg_catalog.||) CASE WHEN ROW(o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."user_id")::pg_catalog.record THEN CASE WHEN ROW(o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."user_id")::pg_catalog.record THEN ARRAY[ARRAY['2'::pg_catalog.text, o."user_id"::pg_catalog.text], ARRAY['2'::pg_catalog.text, n."user_id"::pg_catalog.text]] ELSE ARRAY[ARRAY['2'::pg_catalog.text, n."user_id"::pg_catalog.text]] END END
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "agent_id", "cost_cents", "duration_seconds", "status", "user_id" FROM pgevict_old) AS o LEFT JOIN (SELECT true AS pgevict_there, "agent_id", "cost_cents", "duration_seconds", "status", "user_id" FROM pgevict_new) AS n ON true LIMIT 2) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
      pgevict_op := 'i';
      SELECT (SELECT CASE WHEN pg_catalog.pg_typeof(n."agent_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) AND pg_catalog.pg_typeof(n."user_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    ARRAY[ARRAY['0'::pg_catalog.text, n."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."agent_id"::pg_catalog.text], ARRAY['2'::pg_catalog.text, n."user_id"::pg_catalog.text]]
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "agent_id", "user_id" FROM pgevict_new) AS n LIMIT 2) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
      pgevict_op := 'd';
      SELECT (SELECT CASE WHEN pg_catalog.pg_typeof(o."agent_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) AND pg_catalog.pg_typeof(o."user_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    ARRAY[ARRAY['0'::pg_catalog.text, o."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, o."agent_id"::pg_catalog.text], ARRAY['2'::pg_catalog.text, o."user_id"::pg_catalog.text]]
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "agent_id", "user_id" FROM pgevict_old) AS o LIMIT 2) INTO pgevict_array;
    END IF;
    IF pgevict_array IS NULL AND pgevict_op IS NOT NULL THEN
      RETURN NULL;
    END IF;
    IF pgevict_array OPERATOR(pg_catalog.<>) '{}' AND pg_catalog.pg_column_size(pgevict_array) OPERATOR(pg_catalog.<=) 65536 THEN
      -- What follows waits for a lock, but not for long.
      LOCK TABLE pgevict.journal IN ROW EXCLUSIVE MODE NOWAIT;
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (7095359158514679516, 'calls', 'r', pgevict_op, pgevict_array);
      -- Asked of the sequence: RETURNING costs ten times as much.
      pgevict_look := pg_catalog.mod(pg_catalog.currval('"pgevict".journal_seq_seq'::pg_catalog.regclass), 251) OPERATOR(pg_catalog.=) 0;
      -- bell
      pgevict_ring := NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, '"pgevict".journal'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int4);
      -- end bell
      IF NOT (pgevict_look OR pgevict_ring IS TRUE) THEN
        RETURN NULL;
      END IF;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
  EXCEPTION WHEN OTHERS THEN
    pgevict_journal := NULL;
    pgevict_look := NULL;
  END;
  IF pgevict_journal IS NULL THEN
    pgevict_kept := ARRAY[
      pg_catalog.current_setting('search_path'), pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('timezone'),
      pg_catalog.current_setting('datestyle'), pg_catalog.current_setting('intervalstyle'), pg_catalog.current_setting('bytea_output'),
      pg_catalog.current_setting('extra_float_digits'), pg_catalog.current_setting('lc_monetary'),
      pg_catalog.current_setting('quote_all_identifiers'), pg_catalog.current_setting('jit'), pg_catalog.current_setting('row_security')
    ];
    -- As the functions that have no short way pin them in their heads.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('lock_timeout', '250ms', true),
      pg_catalog.set_config('timezone', 'UTC', true), pg_catalog.set_config('datestyle', 'ISO, YMD', true),
      pg_catalog.set_config('intervalstyle', 'postgres', true), pg_catalog.set_config('bytea_output', 'hex', true),
      pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('lc_monetary', 'C', true),
      pg_catalog.set_config('quote_all_identifiers', 'off', true), pg_catalog.set_config('jit', 'off', true),
      pg_catalog.set_config('row_security', 'off', true);
  -- end hot
  BEGIN
    -- One row, as most statements change: one short query pairs its images and says what is to be written, NULL for
    -- nothing. Without an answer there are more rows, or none. The plans of all these queries are cached; large statements
    -- are planned for their size, and read only once.
    IF TG_OP = 'INSERT' THEN
      pgevict_op := 'i';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[ARRAY['0'::pg_catalog.text, n."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."agent_id"::pg_catalog.text], ARRAY['2'::pg_catalog.text, n."user_id"::pg_catalog.text]] AS tuples
  FROM (SELECT "agent_id", "user_id" FROM pgevict_new) AS n
  WHERE NOT EXISTS (SELECT FROM pgevict_new OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_new LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "agent_id" AS c0, "user_id" AS c1 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv1
  FROM r
), k2 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
UNION ALL SELECT ARRAY['2'::text, k.iv0] AS tuple FROM k2 AS k
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT CASE WHEN ROW(o."agent_id", o."cost_cents", o."duration_seconds", o."status", o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."agent_id", n."cost_cents", n."duration_seconds", n."status", n."user_id")::pg_catalog.record THEN CASE WHEN ROW(o."agent_id", o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."agent_id", n."user_id")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, o."agent_id"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."agent_id"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."agent_id"::pg_catalog.text]] END END
    OPERATOR(pg_catalog.||) CASE WHEN ROW(o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."user_id")::pg_catalog.record THEN CASE WHEN ROW(o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."user_id")::pg_catalog.record THEN ARRAY[ARRAY['2'::pg_catalog.text, o."user_id"::pg_catalog.text], ARRAY['2'::pg_catalog.text, n."user_id"::pg_catalog.text]] ELSE ARRAY[ARRAY['2'::pg_catalog.text, n."user_id"::pg_catalog.text]] END END AS tuples
  FROM (SELECT "agent_id", "cost_cents", "duration_seconds", "status", "user_id" FROM pgevict_old) AS o CROSS JOIN (SELECT "agent_id", "cost_cents", "duration_seconds", "status", "user_id" FROM pgevict_new) AS n
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH pgevict_counts AS MATERIALIZED (
  SELECT (SELECT count(*) FROM pgevict_old) <> (SELECT count(*) FROM pgevict_new) AS uneven
), r AS (
  SELECT o.p IS NOT NULL AS o,
    n.p IS NOT NULL AS n,
    o.c0 AS o0,
    o.c1 AS o1,
    o.c2 AS o2,
    o.c3 AS o3,
    o.c4 AS o4,
    n.c0 AS n0,
    n.c1 AS n1,
    n.c2 AS n2,
    n.c3 AS n3,
    n.c4 AS n4,
    ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2, o.c3, o.c4)::record *<> ROW(n.c0, n.c1, n.c2, n.c3, n.c4)::record) AS h0,
    ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2, o.c3, o.c4)::record *<> ROW(n.c0, n.c1, n.c2, n.c3, n.c4)::record) AS h1,
    ((SELECT uneven FROM pgevict_counts) OR ROW(o.c4)::record *<> ROW(n.c4)::record) AS h2
  FROM (SELECT row_number() OVER () AS p, "agent_id" AS c0, "cost_cents" AS c1, "duration_seconds" AS c2, "status" AS c3, "user_id" AS c4
    FROM pgevict_old) AS o
  FULL JOIN (SELECT row_number() OVER () AS p, "agent_id" AS c0, "cost_cents" AS c1, "duration_seconds" AS c2, "status" AS c3, "user_id" AS c4
    FROM pgevict_new) AS n ON n.p = o.p
  WHERE ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2, o.c3, o.c4)::record *<> ROW(n.c0, n.c1, n.c2, n.c3, n.c4)::record)
    OR ((SELECT uneven FROM pgevict_counts) OR ROW(o.c4)::record *<> ROW(n.c4)::record)
), k0 AS (
  SELECT DISTINCT r.o, r.n, r.o4::text COLLATE "C" AS ov0, r.n4::text COLLATE "C" AS nv0
  FROM r WHERE r.h0
), k1 AS (
  SELECT DISTINCT r.o, r.n, r.o0::text COLLATE "C" AS ov1, r.n0::text COLLATE "C" AS nv1
  FROM r WHERE r.h1
), k2 AS (
  SELECT DISTINCT r.o, r.n, r.o4::text COLLATE "C" AS ov0, r.n4::text COLLATE "C" AS nv0
  FROM r WHERE r.h2
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.ov0] AS tuple FROM k0 AS k WHERE k.o
UNION ALL SELECT ARRAY['0'::text, k.nv0] AS tuple FROM k0 AS k WHERE k.n
UNION ALL SELECT ARRAY['1'::text, k.ov1] AS tuple FROM k1 AS k WHERE k.o
UNION ALL SELECT ARRAY['1'::text, k.nv1] AS tuple FROM k1 AS k WHERE k.n
UNION ALL SELECT ARRAY['2'::text, k.ov0] AS tuple FROM k2 AS k WHERE k.o
UNION ALL SELECT ARRAY['2'::text, k.nv0] AS tuple FROM k2 AS k WHERE k.n
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'DELETE' THEN
      pgevict_op := 'd';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[ARRAY['0'::pg_catalog.text, o."user_id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, o."agent_id"::pg_catalog.text], ARRAY['2'::pg_catalog.text, o."user_id"::pg_catalog.text]] AS tuples
  FROM (SELECT "agent_id", "user_id" FROM pgevict_old) AS o
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "agent_id" AS c0, "user_id" AS c1 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv1
  FROM r
), k2 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
UNION ALL SELECT ARRAY['2'::text, k.iv0] AS tuple FROM k2 AS k
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSE
      pgevict_op := 't';
      INSERT INTO pgevict.journal (layout, tbl, kind, op) VALUES (7095359158514679516, 'calls', 'w', pgevict_op)
      RETURNING tableoid INTO pgevict_journal;
    END IF;
    IF pgevict_count > 256 OR pgevict_bytes > 65536 THEN
      EXECUTE replace(replace(pgevict_cut, 'pgevict_tuples', CASE TG_OP WHEN 'INSERT' THEN $query$WITH r AS (
  SELECT "agent_id" AS c0, "user_id" AS c1 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv1
  FROM r
), k2 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
UNION ALL SELECT ARRAY['2'::text, k.iv0] AS tuple FROM k2 AS k
) AS t$query$ WHEN 'UPDATE' THEN $query$WITH pgevict_counts AS MATERIALIZED (
  SELECT (SELECT count(*) FROM pgevict_old) <> (SELECT count(*) FROM pgevict_new) AS uneven
), r AS (
  SELECT o.p IS NOT NULL AS o,
    n.p IS NOT NULL AS n,
    o.c0 AS o0,
    o.c1 AS o1,
    o.c2 AS o2,
    o.c3 AS o3,
    o.c4 AS o4,
    n.c0 AS n0,
    n.c1 AS n1,
    n.c2 AS n2,
    n.c3 AS n3,
    n.c4 AS n4,
    ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2, o.c3, o.c4)::record *<> ROW(n.c0, n.c1, n.c2, n.c3, n.c4)::record) AS h0,
    ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2, o.c3, o.c4)::record *<> ROW(n.c0, n.c1, n.c2, n.c3, n.c4)::record) AS h1,
    ((SELECT uneven FROM pgevict_counts) OR ROW(o.c4)::record *<> ROW(n.c4)::record) AS h2
  FROM (SELECT row_number() OVER () AS p, "agent_id" AS c0, "cost_cents" AS c1, "duration_seconds" AS c2, "status" AS c3, "user_id" AS c4
    FROM pgevict_old) AS o
  FULL JOIN (SELECT row_number() OVER () AS p, "agent_id" AS c0, "cost_cents" AS c1, "duration_seconds" AS c2, "status" AS c3, "user_id" AS c4
    FROM pgevict_new) AS n ON n.p = o.p
  WHERE ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2, o.c3, o.c4)::record *<> ROW(n.c0, n.c1, n.c2, n.c3, n.c4)::record)
    OR ((SELECT uneven FROM pgevict_counts) OR ROW(o.c4)::record *<> ROW(n.c4)::record)
), k0 AS (
  SELECT DISTINCT r.o, r.n, r.o4::text COLLATE "C" AS ov0, r.n4::text COLLATE "C" AS nv0
  FROM r WHERE r.h0
), k1 AS (
  SELECT DISTINCT r.o, r.n, r.o0::text COLLATE "C" AS ov1, r.n0::text COLLATE "C" AS nv1
  FROM r WHERE r.h1
), k2 AS (
  SELECT DISTINCT r.o, r.n, r.o4::text COLLATE "C" AS ov0, r.n4::text COLLATE "C" AS nv0
  FROM r WHERE r.h2
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.ov0] AS tuple FROM k0 AS k WHERE k.o
UNION ALL SELECT ARRAY['0'::text, k.nv0] AS tuple FROM k0 AS k WHERE k.n
UNION ALL SELECT ARRAY['1'::text, k.ov1] AS tuple FROM k1 AS k WHERE k.o
UNION ALL SELECT ARRAY['1'::text, k.nv1] AS tuple FROM k1 AS k WHERE k.n
UNION ALL SELECT ARRAY['2'::text, k.ov0] AS tuple FROM k2 AS k WHERE k.o
UNION ALL SELECT ARRAY['2'::text, k.nv0] AS tuple FROM k2 AS k WHERE k.n
) AS t$query$ WHEN 'DELETE' THEN $query$WITH r AS (
  SELECT "agent_id" AS c0, "user_id" AS c1 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv1
  FROM r
), k2 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
UNION ALL SELECT ARRAY['2'::text, k.iv0] AS tuple FROM k2 AS k
) AS t$query$ END), '(SELECT uneven FROM pgevict_counts)',
        CASE WHEN (SELECT relkind FROM pg_class WHERE oid = TG_RELID) = 'r' THEN 'false' ELSE '(SELECT uneven FROM pgevict_counts)' END) INTO pgevict_journal USING pgevict_op;
      pgevict_look := true;
    ELSIF pgevict_array IS NOT NULL THEN
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (7095359158514679516, 'calls', 'r', pgevict_op, pgevict_array)
      -- A prime, so that no habit of the application keeps step with it.
      RETURNING mod(seq, 251) = 0 INTO pgevict_look;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
    -- bell
    -- The last thing in this block, so that no error takes it back without the row: a second subtransaction would cost
    -- as much as it. The daemon holds this lock only while it sleeps. The key is the journal's oid (bit for bit: a cast
    -- of oid to integer wraps).
    IF pgevict_journal IS NOT NULL THEN
      pgevict_ring := NOT pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::integer);
    END IF;
    -- end bell
  EXCEPTION WHEN OTHERS THEN
    IF false THEN
      RAISE;
    END IF;
    pgevict_failure := SQLERRM;
    pgevict_journal := NULL;
    pgevict_look := true;
    BEGIN
      -- A statement without rows evicts nothing, however broken the capture is. (One query an operation: the others'
      -- transition tables do not exist.)
      IF TG_OP = 'INSERT' THEN
        PERFORM FROM pgevict_new LIMIT 1;
      ELSIF TG_OP <> 'TRUNCATE' THEN
        PERFORM FROM pgevict_old LIMIT 1;
      END IF;
      IF NOT FOUND AND TG_OP <> 'TRUNCATE' THEN
        pgevict_look := NULL;
      -- A lock is waited for once more, not once a class.
      ELSIF TG_OP = 'TRUNCATE' OR SQLSTATE = '55P03' THEN
        INSERT INTO pgevict.journal (layout, tbl, kind, op, note)
        VALUES (7095359158514679516, 'calls', 'x', pgevict_op, left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_journal;
      ELSE
        pgevict_classes := CASE TG_OP WHEN 'INSERT' THEN ARRAY[$query$WITH r AS (
  SELECT "user_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$, $query$WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_new
), k1 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['1'::text, k.iv0] AS tuple FROM k1 AS k$query$, $query$WITH r AS (
  SELECT "user_id" AS c0 FROM pgevict_new
), k2 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['2'::text, k.iv0] AS tuple FROM k2 AS k$query$]::text[] WHEN 'UPDATE' THEN ARRAY[$query$WITH pgevict_counts AS MATERIALIZED (
  SELECT (SELECT count(*) FROM pgevict_old) <> (SELECT count(*) FROM pgevict_new) AS uneven
), r AS (
  SELECT o.p IS NOT NULL AS o,
    n.p IS NOT NULL AS n,
    o.c0 AS o0,
    o.c1 AS o1,
    o.c2 AS o2,
    o.c3 AS o3,
    o.c4 AS o4,
    n.c0 AS n0,
    n.c1 AS n1,
    n.c2 AS n2,
    n.c3 AS n3,
    n.c4 AS n4
  FROM (SELECT row_number() OVER () AS p, "agent_id" AS c0, "cost_cents" AS c1, "duration_seconds" AS c2, "status" AS c3, "user_id" AS c4
    FROM pgevict_old) AS o
  FULL JOIN (SELECT row_number() OVER () AS p, "agent_id" AS c0, "cost_cents" AS c1, "duration_seconds" AS c2, "status" AS c3, "user_id" AS c4
    FROM pgevict_new) AS n ON n.p = o.p
  WHERE ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2, o.c3, o.c4)::record *<> ROW(n.c0, n.c1, n.c2, n.c3, n.c4)::record)
), k0 AS (
  SELECT DISTINCT r.o, r.n, r.o4::text COLLATE "C" AS ov0, r.n4::text COLLATE "C" AS nv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.ov0] AS tuple FROM k0 AS k WHERE k.o
UNION ALL SELECT ARRAY['0'::text, k.nv0] AS tuple FROM k0 AS k WHERE k.n
) AS t$query$, $query$WITH pgevict_counts AS MATERIALIZED (
  SELECT (SELECT count(*) FROM pgevict_old) <> (SELECT count(*) FROM pgevict_new) AS uneven
), r AS (
  SELECT o.p IS NOT NULL AS o,
    n.p IS NOT NULL AS n,
    o.c0 AS o0,
    o.c1 AS o1,
    o.c2 AS o2,
    o.c3 AS o3,
    o.c4 AS o4,
    n.c0 AS n0,
    n.c1 AS n1,
    n.c2 AS n2,
    n.c3 AS n3,
    n.c4 AS n4
  FROM (SELECT row_number() OVER () AS p, "agent_id" AS c0, "cost_cents" AS c1, "duration_seconds" AS c2, "status" AS c3, "user_id" AS c4
    FROM pgevict_old) AS o
  FULL JOIN (SELECT row_number() OVER () AS p, "agent_id" AS c0, "cost_cents" AS c1, "duration_seconds" AS c2, "status" AS c3, "user_id" AS c4
    FROM pgevict_new) AS n ON n.p = o.p
  WHERE ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2, o.c3, o.c4)::record *<> ROW(n.c0, n.c1, n.c2, n.c3, n.c4)::record)
), k1 AS (
  SELECT DISTINCT r.o, r.n, r.o0::text COLLATE "C" AS ov0, r.n0::text COLLATE "C" AS nv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['1'::text, k.ov0] AS tuple FROM k1 AS k WHERE k.o
UNION ALL SELECT ARRAY['1'::text, k.nv0] AS tuple FROM k1 AS k WHERE k.n
) AS t$query$, $query$WITH pgevict_counts AS MATERIALIZED (
  SELECT (SELECT count(*) FROM pgevict_old) <> (SELECT count(*) FROM pgevict_new) AS uneven
), r AS (
  SELECT o.p IS NOT NULL AS o,
    n.p IS NOT NULL AS n,
    o.c0 AS o0,
    n.c0 AS n0
  FROM (SELECT row_number() OVER () AS p, "user_id" AS c0
    FROM pgevict_old) AS o
  FULL JOIN (SELECT row_number() OVER () AS p, "user_id" AS c0
    FROM pgevict_new) AS n ON n.p = o.p
  WHERE ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0)::record *<> ROW(n.c0)::record)
), k2 AS (
  SELECT DISTINCT r.o, r.n, r.o0::text COLLATE "C" AS ov0, r.n0::text COLLATE "C" AS nv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['2'::text, k.ov0] AS tuple FROM k2 AS k WHERE k.o
UNION ALL SELECT ARRAY['2'::text, k.nv0] AS tuple FROM k2 AS k WHERE k.n
) AS t$query$]::text[] WHEN 'DELETE' THEN ARRAY[$query$WITH r AS (
  SELECT "user_id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$, $query$WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_old
), k1 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['1'::text, k.iv0] AS tuple FROM k1 AS k$query$, $query$WITH r AS (
  SELECT "user_id" AS c0 FROM pgevict_old
), k2 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['2'::text, k.iv0] AS tuple FROM k2 AS k$query$]::text[] END;
        FOR i IN 1 .. coalesce(array_length(pgevict_classes, 1), 0) LOOP
          CONTINUE WHEN pgevict_classes[i] IS NULL;
          BEGIN
            EXECUTE replace(pgevict_cut, 'pgevict_tuples', pgevict_classes[i]) INTO pgevict_written USING pgevict_op;
          EXCEPTION WHEN OTHERS THEN
            pgevict_failure := SQLERRM;
            INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, note)
            VALUES (7095359158514679516, 'calls', 'x', pgevict_op, ARRAY[i - 1], left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_written;
          END;
          pgevict_journal := coalesce(pgevict_written, pgevict_journal);
        END LOOP;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      pgevict_failure := SQLERRM;
      BEGIN
        PERFORM nextval('"pgevict".lost'::pg_catalog.regclass);
      EXCEPTION WHEN OTHERS THEN
        -- A missing counter is itself what the daemon notices.
        NULL;
      END;
      RAISE WARNING USING MESSAGE = 'pgevict: a change of ' || 'calls' || ' was not captured, its caches will be flushed: ' || pgevict_failure;
    END;
  END;
  -- hot
    BEGIN
      PERFORM pg_catalog.set_config('lock_timeout', pgevict_kept[2], true), pg_catalog.set_config('timezone', pgevict_kept[3], true),
        pg_catalog.set_config('datestyle', pgevict_kept[4], true), pg_catalog.set_config('intervalstyle', pgevict_kept[5], true),
        pg_catalog.set_config('bytea_output', pgevict_kept[6], true), pg_catalog.set_config('extra_float_digits', pgevict_kept[7], true),
        pg_catalog.set_config('lc_monetary', pgevict_kept[8], true), pg_catalog.set_config('quote_all_identifiers', pgevict_kept[9], true),
        pg_catalog.set_config('jit', pgevict_kept[10], true), pg_catalog.set_config('row_security', pgevict_kept[11], true),
        pg_catalog.set_config('search_path', pgevict_kept[1], true);
    EXCEPTION WHEN OTHERS THEN
      -- They end with the transaction.
      NULL;
    END;
  END IF;
  -- end hot
  -- bell
  -- After the protected block, so that an error of layer 1 does not take the ring with it. A ring that fails is made
  -- good by the daemon's slow poll. A prepared transaction may not notify, and a queue that fills would one day fail commits.
  IF pgevict_journal IS NOT NULL AND pgevict_ring IS NOT FALSE THEN
    BEGIN
      IF pgevict_ring OR NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::pg_catalog.int4) THEN
        IF pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1 THEN
          PERFORM pg_catalog.pg_notify('pgevict', '');
        END IF;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  -- end bell
  -- Nobody may be reading (relief.sql). What fails here is tried again by another writer.
  IF pgevict_look THEN
    BEGIN
      PERFORM pgevict.relieve();
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  RETURN NULL;
END
$pgevict$$definition$]::text[];
  hashes constant text[] := ARRAY['7791b9628d6c75b7dc6114ac1c80638b1cb68522251c77fd3a5daea3b695c336']::text[];
  marks constant text[] := ARRAY['pgevict capture 1 layout=7095359158514679516 table=calls source=7791b9628d6c75b7']::text[];
  settings constant text[] := ARRAY['']::text[];
  -- Triggers: letter, level (s statement, r row), function, and how it is enabled (O origin, A always, R replica).
  letters constant text[] := ARRAY['i', 'u', 'd', 't']::text[];
  levels constant text[] := ARRAY['s', 's', 's', 's']::text[];
  callees constant text[] := ARRAY['capture_calls_b205cea3', 'capture_calls_b205cea3', 'capture_calls_b205cea3', 'capture_calls_b205cea3']::text[];
  enabled constant text[] := ARRAY['O', 'O', 'O', 'O']::text[];
  root constant oid := pg_catalog.to_regclass(target);
  waited constant text := pg_catalog.current_setting('lock_timeout');
  missing text;
  callee oid;
  relation record;
  trigger_name text;
  present record;
  tree oid[];
  hyper boolean := false;
  event text;
BEGIN
  IF root IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = 'pgevict: the watched table ' || target || ' does not exist',
      HINT = 'Create it first, or correct its name in the configuration.';
  END IF;
  IF (SELECT relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class WHERE oid = root) THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is not a table',
      HINT = 'Changes of views and foreign tables fire no triggers: watch the tables behind it.';
  END IF;
  SELECT pg_catalog.string_agg(pg_catalog.quote_ident(c), ', ') INTO missing FROM pg_catalog.unnest(needed) AS c
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = root AND attname = c AND attnum > 0 AND NOT attisdropped);
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = 'pgevict: ' || target || ' has no column ' || missing,
      HINT = 'Correct the configuration, then make this migration again.';
  END IF;
  WITH RECURSIVE below (oid) AS (
    SELECT root UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN below ON i.inhparent = below.oid
  ) SELECT pg_catalog.array_agg(below.oid) INTO tree FROM below;
  IF pg_catalog.to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL THEN
    EXECUTE 'SELECT EXISTS (SELECT FROM _timescaledb_catalog.hypertable AS h JOIN pg_catalog.pg_namespace AS n ON n.nspname = h.schema_name'
      || ' JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name WHERE c.oid = $1)' INTO hyper USING root;
  END IF;
  IF hyper AND EXISTS (SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i WHERE levels[i] = 's' AND letters[i] <> 't') THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is a hypertable, and this migration was made for an ordinary table',
      HINT = 'Make it again where pgevict sql up can reach the database, or write capture = "row" in the section of the table.';
  END IF;
  SELECT c.relname INTO present FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (tree) AND c.relkind = 'f' LIMIT 1;
  IF FOUND AND NOT hyper THEN
    -- The executor refuses to collect transition rows from a foreign table: every write that reaches it would fail.
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' has the foreign table ' || pg_catalog.quote_ident(present.relname) || ' below it',
      HINT = 'Watch its other partitions one by one instead.';
  END IF;

  PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
  IF NOT EXISTS (SELECT FROM pgevict.layout WHERE id = layout_id) THEN
    INSERT INTO pgevict.layout (id, tbl, spec) VALUES (layout_id, layout_tbl, layout_spec);
  END IF;
  FOR i IN 1 .. pg_catalog.array_length(functions, 1) LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = functions[i] AND p.pronargs = 0 AND p.prosecdef
        AND coalesce(pg_catalog.array_to_string(p.proconfig, E'\n'), '') = settings[i]
        AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex') = hashes[i]
        AND pg_catalog.obj_description(p.oid, 'pg_proc') = marks[i]
    ) THEN
      EXECUTE definitions[i];
      EXECUTE 'REVOKE ALL ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() FROM PUBLIC';
      EXECUTE 'COMMENT ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() IS '
        || pg_catalog.quote_literal(marks[i]);
    END IF;
  END LOOP;

  FOR relation IN
    SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name, c.relkind
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (tree) ORDER BY c.oid = root DESC, 2
  LOOP
    FOR i IN 1 .. pg_catalog.array_length(letters, 1) LOOP
      -- Row triggers of a partitioned table are cloned to its partitions: the partitions have their own.
      CONTINUE WHEN levels[i] = 'r' AND relation.relkind = 'p';
      -- A chunk has the hypertable's row triggers, under their names; a tiered one is a foreign table, which is only read.
      CONTINUE WHEN hyper AND relation.oid <> root AND (levels[i] <> 'r' OR relation.relkind <> 'r');
      trigger_name := 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
        || CASE WHEN relation.oid = root OR hyper THEN '' ELSE '_' || suffix END;
      SELECT p.oid INTO callee FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = callees[i] AND p.pronargs = 0;
      SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t
      WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name AND t.tgfoid = callee AND t.tgattr::text = '' AND t.tgqual IS NULL
        -- Bits of tgtype: 1 row, 4 insert, 8 delete, 16 update, 32 truncate.
        AND t.tgtype = CASE letters[i] WHEN 'i' THEN 4 WHEN 'd' THEN 8 WHEN 'u' THEN 16 ELSE 32 END + CASE levels[i] WHEN 'r' THEN 1 ELSE 0 END
        AND t.tgoldtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN 'pgevict_old' END
        AND t.tgnewtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN 'pgevict_new' END;
      IF NOT FOUND THEN
        event := CASE letters[i] WHEN 'i' THEN 'INSERT' WHEN 'u' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'TRUNCATE' END;
        IF hyper AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name) THEN
          -- Timescale does not replace the clones.
          EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(trigger_name) || ' ON ' || relation.name;
        END IF;
        EXECUTE CASE WHEN hyper THEN 'CREATE TRIGGER ' ELSE 'CREATE OR REPLACE TRIGGER ' END || pg_catalog.quote_ident(trigger_name) || ' AFTER ' || event || ' ON ' || relation.name
          || CASE WHEN levels[i] = 's' AND letters[i] <> 't' THEN ' REFERENCING' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN ' OLD TABLE AS pgevict_old' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN ' NEW TABLE AS pgevict_new' ELSE '' END
          || CASE levels[i] WHEN 'r' THEN ' FOR EACH ROW' ELSE ' FOR EACH STATEMENT' END
          || ' EXECUTE FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(callees[i]) || '()';
        SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name;
      END IF;
      IF present.tgenabled::text <> enabled[i] THEN
        EXECUTE CASE WHEN hyper THEN 'ALTER TABLE ' ELSE 'ALTER TABLE ONLY ' END || relation.name
          || CASE enabled[i] WHEN 'A' THEN ' ENABLE ALWAYS TRIGGER ' WHEN 'R' THEN ' ENABLE REPLICA TRIGGER ' ELSE ' ENABLE TRIGGER ' END
          || pg_catalog.quote_ident(trigger_name);
      END IF;
    END LOOP;
  END LOOP;

  -- Triggers of ours that are not wanted any more: detached partitions, operations that no edge counts, renamed tables.
  FOR relation IN
    SELECT t.oid, t.tgname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE pn.nspname = ns AND p.proname IN ('capture_calls_b205cea3', 'capture_row_calls_b205cea3') AND NOT (
      t.tgrelid = ANY (tree)
      AND EXISTS (
        SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i
        WHERE t.tgname = 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
          || CASE WHEN t.tgrelid = root OR hyper AND levels[i] = 'r' THEN '' ELSE '_' || suffix END
          AND p.proname = callees[i]
      )
    )
  LOOP
    -- The clones on chunks go with the trigger of their hypertable.
    CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.oid = relation.oid);
    EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(relation.tgname) || ' ON ' || relation.name;
  END LOOP;
  FOR relation IN
    SELECT p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = ns AND p.proname IN ('capture_calls_b205cea3', 'capture_row_calls_b205cea3') AND p.proname <> ALL (functions)
  LOOP
    EXECUTE 'DROP FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(relation.proname) || '()';
  END LOOP;
  PERFORM pg_catalog.set_config('lock_timeout', waited, true);
END
$pgevict_table$;

-- capture of table lead_analytics
DO $pgevict_table$
DECLARE
  ns constant text := 'pgevict';
  target constant text := '"public"."lead_analytics"';
  suffix constant text := '58f0cf86';
  layout_id constant bigint := 2268899811732888572;
  layout_tbl constant text := 'lead_analytics';
  layout_spec constant text := '{"v": 1,"schema": "public","table": "lead_analytics","always": false,"closed": false,"classes": [{"ops": "iud","columns": null,"when": [],"values": [{"column": "call_id","lookup": {"to": ["public","calls"],"take": "user_id","by": null}}],"edges": [{"cache": "lead_analytics","holes": {"user_id": 0},"via": null}]}]}';
  needed constant text[] := ARRAY['call_id']::text[];
  -- Functions, and per function: what makes it, the SHA-256 of its source, the mark that `sql diff` compares, and what it pins, one a line.
  functions constant text[] := ARRAY['capture_lead_analytics_58f0cf86']::text[];
  definitions constant text[] := ARRAY[$definition$CREATE OR REPLACE FUNCTION pgevict."capture_lead_analytics_58f0cf86"() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
-- settings
-- Whatever changes the text of a value is pinned; the rest keeps the caller's session out of the function.
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '250ms'
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = '1'
SET lc_monetary = 'C'
SET quote_all_identifiers = 'off'
-- A query that was planned for a large statement would be compiled anew for every small one of the session.
SET jit = 'off'
-- Rows of a lookup's parent that a policy would hide make an error (and so kind x) instead of a silent miss.
SET row_security = 'off'
-- end settings
AS $pgevict$
#variable_conflict use_column
-- The queries are static: a column that is dropped must not be found among the variables.
DECLARE
  pgevict_op pg_catalog."char";
  pgevict_one pg_catalog.bool;
  pgevict_count pg_catalog.int8;
  pgevict_bytes pg_catalog.int8;
  pgevict_array pg_catalog.text[];
  pgevict_classes pg_catalog.text[];
  pgevict_journal pg_catalog.oid;
  pgevict_written pg_catalog.oid;
  -- Whether the daemon sleeps; NULL while nobody has looked.
  pgevict_ring pg_catalog.bool;
  -- Whether to look how large the journal is.
  pgevict_look pg_catalog.bool;
  pgevict_failure pg_catalog.text;
  -- Rows of at most 1000 tuples and about 64 kB; a class past 50000 tuples or with a value over 1 MiB goes whole.
  pgevict_cut constant pg_catalog.text := $sql$
WITH tuple AS MATERIALIZED (
  SELECT q.tuple, q.tuple[1]::integer AS class, octet_length(array_to_string(q.tuple, '')) AS size
  FROM (pgevict_tuples) AS q
), sized AS MATERIALIZED (
  SELECT tuple, CASE WHEN class < 0 THEN -class - 1 ELSE class END AS class, size,
    CASE WHEN size > 1048576 THEN (SELECT max(octet_length(value)) FROM unnest(tuple) AS value) ELSE 0 END AS widest
  FROM tuple
), too_much AS (
  SELECT class FROM sized GROUP BY class HAVING count(*) > 50000 OR max(widest) > 1048576
), whole AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, classes)
  SELECT 2268899811732888572, 'lead_analytics', 'w', $1, array_agg(class ORDER BY class) FROM too_much HAVING count(*) > 0
  RETURNING tableoid
), pieces AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples)
  SELECT 2268899811732888572, 'lead_analytics', 'r', $1, array_agg(tuple) FROM (
    SELECT tuple, (row_number() OVER running - 1) / 1000 AS by_count, sum(size) OVER running / 65536 AS by_size
    FROM sized WHERE class NOT IN (SELECT class FROM too_much)
    WINDOW running AS (ROWS UNBOUNDED PRECEDING)
  ) AS piece GROUP BY by_count, by_size
  RETURNING tableoid
)
SELECT tableoid FROM whole UNION ALL SELECT tableoid FROM pieces LIMIT 1
$sql$;
BEGIN
  BEGIN
    -- One row, as most statements change: one short query pairs its images and says what is to be written, NULL for
    -- nothing. Without an answer there are more rows, or none. The plans of all these queries are cached; large statements
    -- are planned for their size, and read only once.
    IF TG_OP = 'INSERT' THEN
      pgevict_op := 'i';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[CASE WHEN (n."call_id" IS NOT NULL AND nl0.found IS NULL) THEN ARRAY['-1'::pg_catalog.text, NULL] ELSE ARRAY['0'::pg_catalog.text, nl0.t0::pg_catalog.text] END] AS tuples
  FROM (SELECT "call_id" FROM pgevict_new) AS n
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = n."call_id" LIMIT 1) AS nl0 ON true
  WHERE NOT EXISTS (SELECT FROM pgevict_new OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_new LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "call_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0 AS if0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT CASE WHEN (k.if0 IS NOT NULL AND l0.found IS NULL) THEN ARRAY['-1'::text, NULL] ELSE ARRAY['0'::text, l0.t0] END AS tuple FROM k0 AS k
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id"::text COLLATE "C" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = k.if0 LIMIT 1) AS l0 ON true
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT CASE WHEN ROW(o."call_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."call_id")::pg_catalog.record THEN ARRAY[CASE WHEN (o."call_id" IS NOT NULL AND ol0.found IS NULL) THEN ARRAY['-1'::pg_catalog.text, NULL] ELSE ARRAY['0'::pg_catalog.text, ol0.t0::pg_catalog.text] END, CASE WHEN (n."call_id" IS NOT NULL AND nl0.found IS NULL) THEN ARRAY['-1'::pg_catalog.text, NULL] ELSE ARRAY['0'::pg_catalog.text, nl0.t0::pg_catalog.text] END] ELSE ARRAY[CASE WHEN (n."call_id" IS NOT NULL AND nl0.found IS NULL) THEN ARRAY['-1'::pg_catalog.text, NULL] ELSE ARRAY['0'::pg_catalog.text, nl0.t0::pg_catalog.text] END] END AS tuples
  FROM (SELECT "call_id" FROM pgevict_old) AS o CROSS JOIN (SELECT "call_id" FROM pgevict_new) AS n
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = o."call_id" LIMIT 1) AS ol0 ON true
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = n."call_id" LIMIT 1) AS nl0 ON true
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "call_id" AS c0 FROM pgevict_old
  UNION ALL SELECT "call_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0 AS if0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT CASE WHEN (k.if0 IS NOT NULL AND l0.found IS NULL) THEN ARRAY['-1'::text, NULL] ELSE ARRAY['0'::text, l0.t0] END AS tuple FROM k0 AS k
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id"::text COLLATE "C" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = k.if0 LIMIT 1) AS l0 ON true
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'DELETE' THEN
      pgevict_op := 'd';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[CASE WHEN (o."call_id" IS NOT NULL AND ol0.found IS NULL) THEN ARRAY['-1'::pg_catalog.text, NULL] ELSE ARRAY['0'::pg_catalog.text, ol0.t0::pg_catalog.text] END] AS tuples
  FROM (SELECT "call_id" FROM pgevict_old) AS o
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = o."call_id" LIMIT 1) AS ol0 ON true
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "call_id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0 AS if0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT CASE WHEN (k.if0 IS NOT NULL AND l0.found IS NULL) THEN ARRAY['-1'::text, NULL] ELSE ARRAY['0'::text, l0.t0] END AS tuple FROM k0 AS k
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id"::text COLLATE "C" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = k.if0 LIMIT 1) AS l0 ON true
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSE
      pgevict_op := 't';
      INSERT INTO pgevict.journal (layout, tbl, kind, op) VALUES (2268899811732888572, 'lead_analytics', 'w', pgevict_op)
      RETURNING tableoid INTO pgevict_journal;
    END IF;
    IF pgevict_count > 256 OR pgevict_bytes > 65536 THEN
      EXECUTE replace(replace(pgevict_cut, 'pgevict_tuples', CASE TG_OP WHEN 'INSERT' THEN $query$WITH r AS (
  SELECT "call_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0 AS if0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT CASE WHEN (k.if0 IS NOT NULL AND l0.found IS NULL) THEN ARRAY['-1'::text, NULL] ELSE ARRAY['0'::text, l0.t0] END AS tuple FROM k0 AS k
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id"::text COLLATE "C" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = k.if0 LIMIT 1) AS l0 ON true
) AS t$query$ WHEN 'UPDATE' THEN $query$WITH r AS (
  SELECT "call_id" AS c0 FROM pgevict_old
  UNION ALL SELECT "call_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0 AS if0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT CASE WHEN (k.if0 IS NOT NULL AND l0.found IS NULL) THEN ARRAY['-1'::text, NULL] ELSE ARRAY['0'::text, l0.t0] END AS tuple FROM k0 AS k
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id"::text COLLATE "C" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = k.if0 LIMIT 1) AS l0 ON true
) AS t$query$ WHEN 'DELETE' THEN $query$WITH r AS (
  SELECT "call_id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0 AS if0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT CASE WHEN (k.if0 IS NOT NULL AND l0.found IS NULL) THEN ARRAY['-1'::text, NULL] ELSE ARRAY['0'::text, l0.t0] END AS tuple FROM k0 AS k
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id"::text COLLATE "C" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = k.if0 LIMIT 1) AS l0 ON true
) AS t$query$ END), '(SELECT uneven FROM pgevict_counts)',
        CASE WHEN (SELECT relkind FROM pg_class WHERE oid = TG_RELID) = 'r' THEN 'false' ELSE '(SELECT uneven FROM pgevict_counts)' END) INTO pgevict_journal USING pgevict_op;
      pgevict_look := true;
    ELSIF pgevict_array IS NOT NULL THEN
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (2268899811732888572, 'lead_analytics', 'r', pgevict_op, pgevict_array)
      -- A prime, so that no habit of the application keeps step with it.
      RETURNING mod(seq, 251) = 0 INTO pgevict_look;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
    -- bell
    -- The last thing in this block, so that no error takes it back without the row: a second subtransaction would cost
    -- as much as it. The daemon holds this lock only while it sleeps. The key is the journal's oid (bit for bit: a cast
    -- of oid to integer wraps).
    IF pgevict_journal IS NOT NULL THEN
      pgevict_ring := NOT pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::integer);
    END IF;
    -- end bell
  EXCEPTION WHEN OTHERS THEN
    IF false THEN
      RAISE;
    END IF;
    pgevict_failure := SQLERRM;
    pgevict_journal := NULL;
    pgevict_look := true;
    BEGIN
      -- A statement without rows evicts nothing, however broken the capture is. (One query an operation: the others'
      -- transition tables do not exist.)
      IF TG_OP = 'INSERT' THEN
        PERFORM FROM pgevict_new LIMIT 1;
      ELSIF TG_OP <> 'TRUNCATE' THEN
        PERFORM FROM pgevict_old LIMIT 1;
      END IF;
      IF NOT FOUND AND TG_OP <> 'TRUNCATE' THEN
        pgevict_look := NULL;
      -- A lock is waited for once more, not once a class.
      ELSIF TG_OP = 'TRUNCATE' OR SQLSTATE = '55P03' THEN
        INSERT INTO pgevict.journal (layout, tbl, kind, op, note)
        VALUES (2268899811732888572, 'lead_analytics', 'x', pgevict_op, left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_journal;
      ELSE
        pgevict_classes := CASE TG_OP WHEN 'INSERT' THEN ARRAY[$query$WITH r AS (
  SELECT "call_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0 AS if0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT CASE WHEN (k.if0 IS NOT NULL AND l0.found IS NULL) THEN ARRAY['-1'::text, NULL] ELSE ARRAY['0'::text, l0.t0] END AS tuple FROM k0 AS k
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id"::text COLLATE "C" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = k.if0 LIMIT 1) AS l0 ON true
) AS t$query$]::text[] WHEN 'UPDATE' THEN ARRAY[$query$WITH r AS (
  SELECT "call_id" AS c0 FROM pgevict_old
  UNION ALL SELECT "call_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0 AS if0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT CASE WHEN (k.if0 IS NOT NULL AND l0.found IS NULL) THEN ARRAY['-1'::text, NULL] ELSE ARRAY['0'::text, l0.t0] END AS tuple FROM k0 AS k
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id"::text COLLATE "C" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = k.if0 LIMIT 1) AS l0 ON true
) AS t$query$]::text[] WHEN 'DELETE' THEN ARRAY[$query$WITH r AS (
  SELECT "call_id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0 AS if0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT CASE WHEN (k.if0 IS NOT NULL AND l0.found IS NULL) THEN ARRAY['-1'::text, NULL] ELSE ARRAY['0'::text, l0.t0] END AS tuple FROM k0 AS k
  LEFT JOIN LATERAL (SELECT true AS found, p."user_id"::text COLLATE "C" AS t0 FROM "public"."calls" AS p
    WHERE p."id" = k.if0 LIMIT 1) AS l0 ON true
) AS t$query$]::text[] END;
        FOR i IN 1 .. coalesce(array_length(pgevict_classes, 1), 0) LOOP
          CONTINUE WHEN pgevict_classes[i] IS NULL;
          BEGIN
            EXECUTE replace(pgevict_cut, 'pgevict_tuples', pgevict_classes[i]) INTO pgevict_written USING pgevict_op;
          EXCEPTION WHEN OTHERS THEN
            pgevict_failure := SQLERRM;
            INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, note)
            VALUES (2268899811732888572, 'lead_analytics', 'x', pgevict_op, ARRAY[i - 1], left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_written;
          END;
          pgevict_journal := coalesce(pgevict_written, pgevict_journal);
        END LOOP;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      pgevict_failure := SQLERRM;
      BEGIN
        PERFORM nextval('"pgevict".lost'::pg_catalog.regclass);
      EXCEPTION WHEN OTHERS THEN
        -- A missing counter is itself what the daemon notices.
        NULL;
      END;
      RAISE WARNING USING MESSAGE = 'pgevict: a change of ' || 'lead_analytics' || ' was not captured, its caches will be flushed: ' || pgevict_failure;
    END;
  END;
  -- bell
  -- After the protected block, so that an error of layer 1 does not take the ring with it. A ring that fails is made
  -- good by the daemon's slow poll. A prepared transaction may not notify, and a queue that fills would one day fail commits.
  IF pgevict_journal IS NOT NULL AND pgevict_ring IS NOT FALSE THEN
    BEGIN
      IF pgevict_ring OR NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::pg_catalog.int4) THEN
        IF pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1 THEN
          PERFORM pg_catalog.pg_notify('pgevict', '');
        END IF;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  -- end bell
  -- Nobody may be reading (relief.sql). What fails here is tried again by another writer.
  IF pgevict_look THEN
    BEGIN
      PERFORM pgevict.relieve();
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  RETURN NULL;
END
$pgevict$$definition$]::text[];
  hashes constant text[] := ARRAY['c2f3da9129fb15fde938bc54f1f22c59f63c1ec9d20467b5feba80664a633062']::text[];
  marks constant text[] := ARRAY['pgevict capture 1 layout=2268899811732888572 table=lead_analytics source=c2f3da9129fb15fd']::text[];
  settings constant text[] := ARRAY['search_path=pg_catalog, pg_temp
lock_timeout=250ms
TimeZone=UTC
DateStyle=ISO, YMD
IntervalStyle=postgres
bytea_output=hex
extra_float_digits=1
lc_monetary=C
quote_all_identifiers=off
jit=off
row_security=off']::text[];
  -- Triggers: letter, level (s statement, r row), function, and how it is enabled (O origin, A always, R replica).
  letters constant text[] := ARRAY['i', 'u', 'd', 't']::text[];
  levels constant text[] := ARRAY['s', 's', 's', 's']::text[];
  callees constant text[] := ARRAY['capture_lead_analytics_58f0cf86', 'capture_lead_analytics_58f0cf86', 'capture_lead_analytics_58f0cf86', 'capture_lead_analytics_58f0cf86']::text[];
  enabled constant text[] := ARRAY['O', 'O', 'O', 'O']::text[];
  root constant oid := pg_catalog.to_regclass(target);
  waited constant text := pg_catalog.current_setting('lock_timeout');
  missing text;
  callee oid;
  relation record;
  trigger_name text;
  present record;
  tree oid[];
  hyper boolean := false;
  event text;
BEGIN
  IF root IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = 'pgevict: the watched table ' || target || ' does not exist',
      HINT = 'Create it first, or correct its name in the configuration.';
  END IF;
  IF (SELECT relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class WHERE oid = root) THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is not a table',
      HINT = 'Changes of views and foreign tables fire no triggers: watch the tables behind it.';
  END IF;
  SELECT pg_catalog.string_agg(pg_catalog.quote_ident(c), ', ') INTO missing FROM pg_catalog.unnest(needed) AS c
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = root AND attname = c AND attnum > 0 AND NOT attisdropped);
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = 'pgevict: ' || target || ' has no column ' || missing,
      HINT = 'Correct the configuration, then make this migration again.';
  END IF;
  WITH RECURSIVE below (oid) AS (
    SELECT root UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN below ON i.inhparent = below.oid
  ) SELECT pg_catalog.array_agg(below.oid) INTO tree FROM below;
  IF pg_catalog.to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL THEN
    EXECUTE 'SELECT EXISTS (SELECT FROM _timescaledb_catalog.hypertable AS h JOIN pg_catalog.pg_namespace AS n ON n.nspname = h.schema_name'
      || ' JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name WHERE c.oid = $1)' INTO hyper USING root;
  END IF;
  IF hyper AND EXISTS (SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i WHERE levels[i] = 's' AND letters[i] <> 't') THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is a hypertable, and this migration was made for an ordinary table',
      HINT = 'Make it again where pgevict sql up can reach the database, or write capture = "row" in the section of the table.';
  END IF;
  SELECT c.relname INTO present FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (tree) AND c.relkind = 'f' LIMIT 1;
  IF FOUND AND NOT hyper THEN
    -- The executor refuses to collect transition rows from a foreign table: every write that reaches it would fail.
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' has the foreign table ' || pg_catalog.quote_ident(present.relname) || ' below it',
      HINT = 'Watch its other partitions one by one instead.';
  END IF;

  PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
  IF NOT EXISTS (SELECT FROM pgevict.layout WHERE id = layout_id) THEN
    INSERT INTO pgevict.layout (id, tbl, spec) VALUES (layout_id, layout_tbl, layout_spec);
  END IF;
  FOR i IN 1 .. pg_catalog.array_length(functions, 1) LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = functions[i] AND p.pronargs = 0 AND p.prosecdef
        AND coalesce(pg_catalog.array_to_string(p.proconfig, E'\n'), '') = settings[i]
        AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex') = hashes[i]
        AND pg_catalog.obj_description(p.oid, 'pg_proc') = marks[i]
    ) THEN
      EXECUTE definitions[i];
      EXECUTE 'REVOKE ALL ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() FROM PUBLIC';
      EXECUTE 'COMMENT ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() IS '
        || pg_catalog.quote_literal(marks[i]);
    END IF;
  END LOOP;

  FOR relation IN
    SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name, c.relkind
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (tree) ORDER BY c.oid = root DESC, 2
  LOOP
    FOR i IN 1 .. pg_catalog.array_length(letters, 1) LOOP
      -- Row triggers of a partitioned table are cloned to its partitions: the partitions have their own.
      CONTINUE WHEN levels[i] = 'r' AND relation.relkind = 'p';
      -- A chunk has the hypertable's row triggers, under their names; a tiered one is a foreign table, which is only read.
      CONTINUE WHEN hyper AND relation.oid <> root AND (levels[i] <> 'r' OR relation.relkind <> 'r');
      trigger_name := 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
        || CASE WHEN relation.oid = root OR hyper THEN '' ELSE '_' || suffix END;
      SELECT p.oid INTO callee FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = callees[i] AND p.pronargs = 0;
      SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t
      WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name AND t.tgfoid = callee AND t.tgattr::text = '' AND t.tgqual IS NULL
        -- Bits of tgtype: 1 row, 4 insert, 8 delete, 16 update, 32 truncate.
        AND t.tgtype = CASE letters[i] WHEN 'i' THEN 4 WHEN 'd' THEN 8 WHEN 'u' THEN 16 ELSE 32 END + CASE levels[i] WHEN 'r' THEN 1 ELSE 0 END
        AND t.tgoldtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN 'pgevict_old' END
        AND t.tgnewtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN 'pgevict_new' END;
      IF NOT FOUND THEN
        event := CASE letters[i] WHEN 'i' THEN 'INSERT' WHEN 'u' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'TRUNCATE' END;
        IF hyper AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name) THEN
          -- Timescale does not replace the clones.
          EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(trigger_name) || ' ON ' || relation.name;
        END IF;
        EXECUTE CASE WHEN hyper THEN 'CREATE TRIGGER ' ELSE 'CREATE OR REPLACE TRIGGER ' END || pg_catalog.quote_ident(trigger_name) || ' AFTER ' || event || ' ON ' || relation.name
          || CASE WHEN levels[i] = 's' AND letters[i] <> 't' THEN ' REFERENCING' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN ' OLD TABLE AS pgevict_old' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN ' NEW TABLE AS pgevict_new' ELSE '' END
          || CASE levels[i] WHEN 'r' THEN ' FOR EACH ROW' ELSE ' FOR EACH STATEMENT' END
          || ' EXECUTE FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(callees[i]) || '()';
        SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name;
      END IF;
      IF present.tgenabled::text <> enabled[i] THEN
        EXECUTE CASE WHEN hyper THEN 'ALTER TABLE ' ELSE 'ALTER TABLE ONLY ' END || relation.name
          || CASE enabled[i] WHEN 'A' THEN ' ENABLE ALWAYS TRIGGER ' WHEN 'R' THEN ' ENABLE REPLICA TRIGGER ' ELSE ' ENABLE TRIGGER ' END
          || pg_catalog.quote_ident(trigger_name);
      END IF;
    END LOOP;
  END LOOP;

  -- Triggers of ours that are not wanted any more: detached partitions, operations that no edge counts, renamed tables.
  FOR relation IN
    SELECT t.oid, t.tgname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE pn.nspname = ns AND p.proname IN ('capture_lead_analytics_58f0cf86', 'capture_row_lead_analytics_58f0cf86') AND NOT (
      t.tgrelid = ANY (tree)
      AND EXISTS (
        SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i
        WHERE t.tgname = 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
          || CASE WHEN t.tgrelid = root OR hyper AND levels[i] = 'r' THEN '' ELSE '_' || suffix END
          AND p.proname = callees[i]
      )
    )
  LOOP
    -- The clones on chunks go with the trigger of their hypertable.
    CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.oid = relation.oid);
    EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(relation.tgname) || ' ON ' || relation.name;
  END LOOP;
  FOR relation IN
    SELECT p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = ns AND p.proname IN ('capture_lead_analytics_58f0cf86', 'capture_row_lead_analytics_58f0cf86') AND p.proname <> ALL (functions)
  LOOP
    EXECUTE 'DROP FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(relation.proname) || '()';
  END LOOP;
  PERFORM pg_catalog.set_config('lock_timeout', waited, true);
END
$pgevict_table$;

-- capture of table agents
DO $pgevict_table$
DECLARE
  ns constant text := 'pgevict';
  target constant text := '"public"."agents"';
  suffix constant text := '44e13915';
  layout_id constant bigint := 6750363748978745148;
  layout_tbl constant text := 'agents';
  layout_spec constant text := '{"v": 1,"schema": "public","table": "agents","always": false,"closed": false,"classes": [{"ops": "iud","columns": null,"when": [],"values": [{"column": "id","lookup": null}],"edges": [{"cache": "agent","holes": {"agent_id": 0},"via": null}]},{"ops": "iud","columns": null,"when": [],"values": [{"column": "user_id","lookup": null}],"edges": [{"cache": "agent_list","holes": {"user_id": 0},"via": null}]}]}';
  needed constant text[] := ARRAY['id', 'user_id']::text[];
  -- Functions, and per function: what makes it, the SHA-256 of its source, the mark that `sql diff` compares, and what it pins, one a line.
  functions constant text[] := ARRAY['capture_agents_44e13915']::text[];
  definitions constant text[] := ARRAY[$definition$CREATE OR REPLACE FUNCTION pgevict."capture_agents_44e13915"() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
AS $pgevict$
#variable_conflict use_column
-- The queries are static: a column that is dropped must not be found among the variables.
DECLARE
  pgevict_op pg_catalog."char";
  pgevict_one pg_catalog.bool;
  pgevict_count pg_catalog.int8;
  pgevict_bytes pg_catalog.int8;
  pgevict_array pg_catalog.text[];
  pgevict_classes pg_catalog.text[];
  pgevict_journal pg_catalog.oid;
  pgevict_written pg_catalog.oid;
  -- Whether the daemon sleeps; NULL while nobody has looked.
  pgevict_ring pg_catalog.bool;
  -- Whether to look how large the journal is.
  pgevict_look pg_catalog.bool;
  pgevict_failure pg_catalog.text;
  -- hot
  -- What the caller had set.
  pgevict_kept pg_catalog.text[];
  -- end hot
  -- Rows of at most 1000 tuples and about 64 kB; a class past 50000 tuples or with a value over 1 MiB goes whole.
  pgevict_cut constant pg_catalog.text := $sql$
WITH tuple AS MATERIALIZED (
  SELECT q.tuple, q.tuple[1]::integer AS class, octet_length(array_to_string(q.tuple, '')) AS size
  FROM (pgevict_tuples) AS q
), sized AS MATERIALIZED (
  SELECT tuple, CASE WHEN class < 0 THEN -class - 1 ELSE class END AS class, size,
    CASE WHEN size > 1048576 THEN (SELECT max(octet_length(value)) FROM unnest(tuple) AS value) ELSE 0 END AS widest
  FROM tuple
), too_much AS (
  SELECT class FROM sized GROUP BY class HAVING count(*) > 50000 OR max(widest) > 1048576
), whole AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, classes)
  SELECT 6750363748978745148, 'agents', 'w', $1, array_agg(class ORDER BY class) FROM too_much HAVING count(*) > 0
  RETURNING tableoid
), pieces AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples)
  SELECT 6750363748978745148, 'agents', 'r', $1, array_agg(tuple) FROM (
    SELECT tuple, (row_number() OVER running - 1) / 1000 AS by_count, sum(size) OVER running / 65536 AS by_size
    FROM sized WHERE class NOT IN (SELECT class FROM too_much)
    WINDOW running AS (ROWS UNBOUNDED PRECEDING)
  ) AS piece GROUP BY by_count, by_size
  RETURNING tableoid
)
SELECT tableoid FROM whole UNION ALL SELECT tableoid FROM pieces LIMIT 1
$sql$;
BEGIN
  -- hot
  -- One row, as most statements change, whose values read the same under all settings: nothing is pinned for it, which would cost
  -- half as much as the rest. Whoever calls has a `search_path` of his own, so every name and operator here, above and in the bell says
  -- whose it is. Either this writes the row, or it does nothing and what follows does all of it. Each query answers NULL where there is
  -- nothing to write (also for no row at all), '{}' where a value's text depends on settings, and fails where there are two rows. What it
  -- costs PostgreSQL is to set the query up, not to run it: a condition that asks for a second row would cost a tenth of the trigger. (LIMIT:
  -- a plan made for a large statement would cost so much that every later run of it in the session were compiled, JIT.)
  BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT (SELECT CASE WHEN n.pgevict_there AND pg_catalog.pg_typeof(n."id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) AND pg_catalog.pg_typeof(n."user_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    CASE WHEN ROW(o."id", o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."id", n."user_id")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, o."user_id"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."user_id"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."user_id"::pg_catalog.text]] END
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "id", "user_id" FROM pgevict_old) AS o LEFT JOIN (SELECT true AS pgevict_there, "id", "user_id" FROM pgevict_new) AS n ON true LIMIT 2) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
      pgevict_op := 'i';
      SELECT (SELECT CASE WHEN pg_catalog.pg_typeof(n."id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) AND pg_catalog.pg_typeof(n."user_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    ARRAY[ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."user_id"::pg_catalog.text]]
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "id", "user_id" FROM pgevict_new) AS n LIMIT 2) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
      pgevict_op := 'd';
      SELECT (SELECT CASE WHEN pg_catalog.pg_typeof(o."id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) AND pg_catalog.pg_typeof(o."user_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    ARRAY[ARRAY['0'::pg_catalog.text, o."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, o."user_id"::pg_catalog.text]]
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "id", "user_id" FROM pgevict_old) AS o LIMIT 2) INTO pgevict_array;
    END IF;
    IF pgevict_array IS NULL AND pgevict_op IS NOT NULL THEN
      RETURN NULL;
    END IF;
    IF pgevict_array OPERATOR(pg_catalog.<>) '{}' AND pg_catalog.pg_column_size(pgevict_array) OPERATOR(pg_catalog.<=) 65536 THEN
      -- What follows waits for a lock, but not for long.
      LOCK TABLE pgevict.journal IN ROW EXCLUSIVE MODE NOWAIT;
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (6750363748978745148, 'agents', 'r', pgevict_op, pgevict_array);
      -- Asked of the sequence: RETURNING costs ten times as much.
      pgevict_look := pg_catalog.mod(pg_catalog.currval('"pgevict".journal_seq_seq'::pg_catalog.regclass), 251) OPERATOR(pg_catalog.=) 0;
      -- bell
      pgevict_ring := NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, '"pgevict".journal'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int4);
      -- end bell
      IF NOT (pgevict_look OR pgevict_ring IS TRUE) THEN
        RETURN NULL;
      END IF;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
  EXCEPTION WHEN OTHERS THEN
    pgevict_journal := NULL;
    pgevict_look := NULL;
  END;
  IF pgevict_journal IS NULL THEN
    pgevict_kept := ARRAY[
      pg_catalog.current_setting('search_path'), pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('timezone'),
      pg_catalog.current_setting('datestyle'), pg_catalog.current_setting('intervalstyle'), pg_catalog.current_setting('bytea_output'),
      pg_catalog.current_setting('extra_float_digits'), pg_catalog.current_setting('lc_monetary'),
      pg_catalog.current_setting('quote_all_identifiers'), pg_catalog.current_setting('jit'), pg_catalog.current_setting('row_security')
    ];
    -- As the functions that have no short way pin them in their heads.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('lock_timeout', '250ms', true),
      pg_catalog.set_config('timezone', 'UTC', true), pg_catalog.set_config('datestyle', 'ISO, YMD', true),
      pg_catalog.set_config('intervalstyle', 'postgres', true), pg_catalog.set_config('bytea_output', 'hex', true),
      pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('lc_monetary', 'C', true),
      pg_catalog.set_config('quote_all_identifiers', 'off', true), pg_catalog.set_config('jit', 'off', true),
      pg_catalog.set_config('row_security', 'off', true);
  -- end hot
  BEGIN
    -- One row, as most statements change: one short query pairs its images and says what is to be written, NULL for
    -- nothing. Without an answer there are more rows, or none. The plans of all these queries are cached; large statements
    -- are planned for their size, and read only once.
    IF TG_OP = 'INSERT' THEN
      pgevict_op := 'i';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."user_id"::pg_catalog.text]] AS tuples
  FROM (SELECT "id", "user_id" FROM pgevict_new) AS n
  WHERE NOT EXISTS (SELECT FROM pgevict_new OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_new LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "id" AS c0, "user_id" AS c1 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv1
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT CASE WHEN ROW(o."id", o."user_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."id", n."user_id")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, o."user_id"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."user_id"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, n."user_id"::pg_catalog.text]] END AS tuples
  FROM (SELECT "id", "user_id" FROM pgevict_old) AS o CROSS JOIN (SELECT "id", "user_id" FROM pgevict_new) AS n
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "id" AS c0, "user_id" AS c1 FROM pgevict_old
  UNION ALL SELECT "id" AS c0, "user_id" AS c1 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv1
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'DELETE' THEN
      pgevict_op := 'd';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[ARRAY['0'::pg_catalog.text, o."id"::pg_catalog.text], ARRAY['1'::pg_catalog.text, o."user_id"::pg_catalog.text]] AS tuples
  FROM (SELECT "id", "user_id" FROM pgevict_old) AS o
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "id" AS c0, "user_id" AS c1 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv1
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSE
      pgevict_op := 't';
      INSERT INTO pgevict.journal (layout, tbl, kind, op) VALUES (6750363748978745148, 'agents', 'w', pgevict_op)
      RETURNING tableoid INTO pgevict_journal;
    END IF;
    IF pgevict_count > 256 OR pgevict_bytes > 65536 THEN
      EXECUTE replace(replace(pgevict_cut, 'pgevict_tuples', CASE TG_OP WHEN 'INSERT' THEN $query$WITH r AS (
  SELECT "id" AS c0, "user_id" AS c1 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv1
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
) AS t$query$ WHEN 'UPDATE' THEN $query$WITH r AS (
  SELECT "id" AS c0, "user_id" AS c1 FROM pgevict_old
  UNION ALL SELECT "id" AS c0, "user_id" AS c1 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv1
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
) AS t$query$ WHEN 'DELETE' THEN $query$WITH r AS (
  SELECT "id" AS c0, "user_id" AS c1 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
), k1 AS (
  SELECT DISTINCT true AS i, r.c1::text COLLATE "C" AS iv1
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k
UNION ALL SELECT ARRAY['1'::text, k.iv1] AS tuple FROM k1 AS k
) AS t$query$ END), '(SELECT uneven FROM pgevict_counts)',
        CASE WHEN (SELECT relkind FROM pg_class WHERE oid = TG_RELID) = 'r' THEN 'false' ELSE '(SELECT uneven FROM pgevict_counts)' END) INTO pgevict_journal USING pgevict_op;
      pgevict_look := true;
    ELSIF pgevict_array IS NOT NULL THEN
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (6750363748978745148, 'agents', 'r', pgevict_op, pgevict_array)
      -- A prime, so that no habit of the application keeps step with it.
      RETURNING mod(seq, 251) = 0 INTO pgevict_look;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
    -- bell
    -- The last thing in this block, so that no error takes it back without the row: a second subtransaction would cost
    -- as much as it. The daemon holds this lock only while it sleeps. The key is the journal's oid (bit for bit: a cast
    -- of oid to integer wraps).
    IF pgevict_journal IS NOT NULL THEN
      pgevict_ring := NOT pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::integer);
    END IF;
    -- end bell
  EXCEPTION WHEN OTHERS THEN
    IF false THEN
      RAISE;
    END IF;
    pgevict_failure := SQLERRM;
    pgevict_journal := NULL;
    pgevict_look := true;
    BEGIN
      -- A statement without rows evicts nothing, however broken the capture is. (One query an operation: the others'
      -- transition tables do not exist.)
      IF TG_OP = 'INSERT' THEN
        PERFORM FROM pgevict_new LIMIT 1;
      ELSIF TG_OP <> 'TRUNCATE' THEN
        PERFORM FROM pgevict_old LIMIT 1;
      END IF;
      IF NOT FOUND AND TG_OP <> 'TRUNCATE' THEN
        pgevict_look := NULL;
      -- A lock is waited for once more, not once a class.
      ELSIF TG_OP = 'TRUNCATE' OR SQLSTATE = '55P03' THEN
        INSERT INTO pgevict.journal (layout, tbl, kind, op, note)
        VALUES (6750363748978745148, 'agents', 'x', pgevict_op, left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_journal;
      ELSE
        pgevict_classes := CASE TG_OP WHEN 'INSERT' THEN ARRAY[$query$WITH r AS (
  SELECT "id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$, $query$WITH r AS (
  SELECT "user_id" AS c0 FROM pgevict_new
), k1 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['1'::text, k.iv0] AS tuple FROM k1 AS k$query$]::text[] WHEN 'UPDATE' THEN ARRAY[$query$WITH r AS (
  SELECT "id" AS c0 FROM pgevict_old
  UNION ALL SELECT "id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$, $query$WITH r AS (
  SELECT "user_id" AS c0 FROM pgevict_old
  UNION ALL SELECT "user_id" AS c0 FROM pgevict_new
), k1 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['1'::text, k.iv0] AS tuple FROM k1 AS k$query$]::text[] WHEN 'DELETE' THEN ARRAY[$query$WITH r AS (
  SELECT "id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$, $query$WITH r AS (
  SELECT "user_id" AS c0 FROM pgevict_old
), k1 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['1'::text, k.iv0] AS tuple FROM k1 AS k$query$]::text[] END;
        FOR i IN 1 .. coalesce(array_length(pgevict_classes, 1), 0) LOOP
          CONTINUE WHEN pgevict_classes[i] IS NULL;
          BEGIN
            EXECUTE replace(pgevict_cut, 'pgevict_tuples', pgevict_classes[i]) INTO pgevict_written USING pgevict_op;
          EXCEPTION WHEN OTHERS THEN
            pgevict_failure := SQLERRM;
            INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, note)
            VALUES (6750363748978745148, 'agents', 'x', pgevict_op, ARRAY[i - 1], left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_written;
          END;
          pgevict_journal := coalesce(pgevict_written, pgevict_journal);
        END LOOP;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      pgevict_failure := SQLERRM;
      BEGIN
        PERFORM nextval('"pgevict".lost'::pg_catalog.regclass);
      EXCEPTION WHEN OTHERS THEN
        -- A missing counter is itself what the daemon notices.
        NULL;
      END;
      RAISE WARNING USING MESSAGE = 'pgevict: a change of ' || 'agents' || ' was not captured, its caches will be flushed: ' || pgevict_failure;
    END;
  END;
  -- hot
    BEGIN
      PERFORM pg_catalog.set_config('lock_timeout', pgevict_kept[2], true), pg_catalog.set_config('timezone', pgevict_kept[3], true),
        pg_catalog.set_config('datestyle', pgevict_kept[4], true), pg_catalog.set_config('intervalstyle', pgevict_kept[5], true),
        pg_catalog.set_config('bytea_output', pgevict_kept[6], true), pg_catalog.set_config('extra_float_digits', pgevict_kept[7], true),
        pg_catalog.set_config('lc_monetary', pgevict_kept[8], true), pg_catalog.set_config('quote_all_identifiers', pgevict_kept[9], true),
        pg_catalog.set_config('jit', pgevict_kept[10], true), pg_catalog.set_config('row_security', pgevict_kept[11], true),
        pg_catalog.set_config('search_path', pgevict_kept[1], true);
    EXCEPTION WHEN OTHERS THEN
      -- They end with the transaction.
      NULL;
    END;
  END IF;
  -- end hot
  -- bell
  -- After the protected block, so that an error of layer 1 does not take the ring with it. A ring that fails is made
  -- good by the daemon's slow poll. A prepared transaction may not notify, and a queue that fills would one day fail commits.
  IF pgevict_journal IS NOT NULL AND pgevict_ring IS NOT FALSE THEN
    BEGIN
      IF pgevict_ring OR NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::pg_catalog.int4) THEN
        IF pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1 THEN
          PERFORM pg_catalog.pg_notify('pgevict', '');
        END IF;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  -- end bell
  -- Nobody may be reading (relief.sql). What fails here is tried again by another writer.
  IF pgevict_look THEN
    BEGIN
      PERFORM pgevict.relieve();
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  RETURN NULL;
END
$pgevict$$definition$]::text[];
  hashes constant text[] := ARRAY['5bbd7730e6c4d0db39c315949bdf7b9891b3d5c85dab2ab44c964d38fbbeff47']::text[];
  marks constant text[] := ARRAY['pgevict capture 1 layout=6750363748978745148 table=agents source=5bbd7730e6c4d0db']::text[];
  settings constant text[] := ARRAY['']::text[];
  -- Triggers: letter, level (s statement, r row), function, and how it is enabled (O origin, A always, R replica).
  letters constant text[] := ARRAY['i', 'u', 'd', 't']::text[];
  levels constant text[] := ARRAY['s', 's', 's', 's']::text[];
  callees constant text[] := ARRAY['capture_agents_44e13915', 'capture_agents_44e13915', 'capture_agents_44e13915', 'capture_agents_44e13915']::text[];
  enabled constant text[] := ARRAY['O', 'O', 'O', 'O']::text[];
  root constant oid := pg_catalog.to_regclass(target);
  waited constant text := pg_catalog.current_setting('lock_timeout');
  missing text;
  callee oid;
  relation record;
  trigger_name text;
  present record;
  tree oid[];
  hyper boolean := false;
  event text;
BEGIN
  IF root IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = 'pgevict: the watched table ' || target || ' does not exist',
      HINT = 'Create it first, or correct its name in the configuration.';
  END IF;
  IF (SELECT relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class WHERE oid = root) THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is not a table',
      HINT = 'Changes of views and foreign tables fire no triggers: watch the tables behind it.';
  END IF;
  SELECT pg_catalog.string_agg(pg_catalog.quote_ident(c), ', ') INTO missing FROM pg_catalog.unnest(needed) AS c
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = root AND attname = c AND attnum > 0 AND NOT attisdropped);
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = 'pgevict: ' || target || ' has no column ' || missing,
      HINT = 'Correct the configuration, then make this migration again.';
  END IF;
  WITH RECURSIVE below (oid) AS (
    SELECT root UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN below ON i.inhparent = below.oid
  ) SELECT pg_catalog.array_agg(below.oid) INTO tree FROM below;
  IF pg_catalog.to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL THEN
    EXECUTE 'SELECT EXISTS (SELECT FROM _timescaledb_catalog.hypertable AS h JOIN pg_catalog.pg_namespace AS n ON n.nspname = h.schema_name'
      || ' JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name WHERE c.oid = $1)' INTO hyper USING root;
  END IF;
  IF hyper AND EXISTS (SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i WHERE levels[i] = 's' AND letters[i] <> 't') THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is a hypertable, and this migration was made for an ordinary table',
      HINT = 'Make it again where pgevict sql up can reach the database, or write capture = "row" in the section of the table.';
  END IF;
  SELECT c.relname INTO present FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (tree) AND c.relkind = 'f' LIMIT 1;
  IF FOUND AND NOT hyper THEN
    -- The executor refuses to collect transition rows from a foreign table: every write that reaches it would fail.
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' has the foreign table ' || pg_catalog.quote_ident(present.relname) || ' below it',
      HINT = 'Watch its other partitions one by one instead.';
  END IF;

  PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
  IF NOT EXISTS (SELECT FROM pgevict.layout WHERE id = layout_id) THEN
    INSERT INTO pgevict.layout (id, tbl, spec) VALUES (layout_id, layout_tbl, layout_spec);
  END IF;
  FOR i IN 1 .. pg_catalog.array_length(functions, 1) LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = functions[i] AND p.pronargs = 0 AND p.prosecdef
        AND coalesce(pg_catalog.array_to_string(p.proconfig, E'\n'), '') = settings[i]
        AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex') = hashes[i]
        AND pg_catalog.obj_description(p.oid, 'pg_proc') = marks[i]
    ) THEN
      EXECUTE definitions[i];
      EXECUTE 'REVOKE ALL ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() FROM PUBLIC';
      EXECUTE 'COMMENT ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() IS '
        || pg_catalog.quote_literal(marks[i]);
    END IF;
  END LOOP;

  FOR relation IN
    SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name, c.relkind
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (tree) ORDER BY c.oid = root DESC, 2
  LOOP
    FOR i IN 1 .. pg_catalog.array_length(letters, 1) LOOP
      -- Row triggers of a partitioned table are cloned to its partitions: the partitions have their own.
      CONTINUE WHEN levels[i] = 'r' AND relation.relkind = 'p';
      -- A chunk has the hypertable's row triggers, under their names; a tiered one is a foreign table, which is only read.
      CONTINUE WHEN hyper AND relation.oid <> root AND (levels[i] <> 'r' OR relation.relkind <> 'r');
      trigger_name := 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
        || CASE WHEN relation.oid = root OR hyper THEN '' ELSE '_' || suffix END;
      SELECT p.oid INTO callee FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = callees[i] AND p.pronargs = 0;
      SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t
      WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name AND t.tgfoid = callee AND t.tgattr::text = '' AND t.tgqual IS NULL
        -- Bits of tgtype: 1 row, 4 insert, 8 delete, 16 update, 32 truncate.
        AND t.tgtype = CASE letters[i] WHEN 'i' THEN 4 WHEN 'd' THEN 8 WHEN 'u' THEN 16 ELSE 32 END + CASE levels[i] WHEN 'r' THEN 1 ELSE 0 END
        AND t.tgoldtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN 'pgevict_old' END
        AND t.tgnewtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN 'pgevict_new' END;
      IF NOT FOUND THEN
        event := CASE letters[i] WHEN 'i' THEN 'INSERT' WHEN 'u' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'TRUNCATE' END;
        IF hyper AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name) THEN
          -- Timescale does not replace the clones.
          EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(trigger_name) || ' ON ' || relation.name;
        END IF;
        EXECUTE CASE WHEN hyper THEN 'CREATE TRIGGER ' ELSE 'CREATE OR REPLACE TRIGGER ' END || pg_catalog.quote_ident(trigger_name) || ' AFTER ' || event || ' ON ' || relation.name
          || CASE WHEN levels[i] = 's' AND letters[i] <> 't' THEN ' REFERENCING' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN ' OLD TABLE AS pgevict_old' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN ' NEW TABLE AS pgevict_new' ELSE '' END
          || CASE levels[i] WHEN 'r' THEN ' FOR EACH ROW' ELSE ' FOR EACH STATEMENT' END
          || ' EXECUTE FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(callees[i]) || '()';
        SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name;
      END IF;
      IF present.tgenabled::text <> enabled[i] THEN
        EXECUTE CASE WHEN hyper THEN 'ALTER TABLE ' ELSE 'ALTER TABLE ONLY ' END || relation.name
          || CASE enabled[i] WHEN 'A' THEN ' ENABLE ALWAYS TRIGGER ' WHEN 'R' THEN ' ENABLE REPLICA TRIGGER ' ELSE ' ENABLE TRIGGER ' END
          || pg_catalog.quote_ident(trigger_name);
      END IF;
    END LOOP;
  END LOOP;

  -- Triggers of ours that are not wanted any more: detached partitions, operations that no edge counts, renamed tables.
  FOR relation IN
    SELECT t.oid, t.tgname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE pn.nspname = ns AND p.proname IN ('capture_agents_44e13915', 'capture_row_agents_44e13915') AND NOT (
      t.tgrelid = ANY (tree)
      AND EXISTS (
        SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i
        WHERE t.tgname = 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
          || CASE WHEN t.tgrelid = root OR hyper AND levels[i] = 'r' THEN '' ELSE '_' || suffix END
          AND p.proname = callees[i]
      )
    )
  LOOP
    -- The clones on chunks go with the trigger of their hypertable.
    CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.oid = relation.oid);
    EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(relation.tgname) || ' ON ' || relation.name;
  END LOOP;
  FOR relation IN
    SELECT p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = ns AND p.proname IN ('capture_agents_44e13915', 'capture_row_agents_44e13915') AND p.proname <> ALL (functions)
  LOOP
    EXECUTE 'DROP FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(relation.proname) || '()';
  END LOOP;
  PERFORM pg_catalog.set_config('lock_timeout', waited, true);
END
$pgevict_table$;

-- capture of table users
DO $pgevict_table$
DECLARE
  ns constant text := 'pgevict';
  target constant text := '"public"."users"';
  suffix constant text := '55cc0495';
  layout_id constant bigint := 3997855020671136234;
  layout_tbl constant text := 'users';
  layout_spec constant text := '{"v": 1,"schema": "public","table": "users","always": false,"closed": false,"classes": [{"ops": "iud","columns": ["credits","id","plan"],"when": [],"values": [{"column": "id","lookup": null}],"edges": [{"cache": "user_credits","holes": {"user_id": 0},"via": null}]}]}';
  needed constant text[] := ARRAY['credits', 'id', 'plan']::text[];
  -- Functions, and per function: what makes it, the SHA-256 of its source, the mark that `sql diff` compares, and what it pins, one a line.
  functions constant text[] := ARRAY['capture_users_55cc0495']::text[];
  definitions constant text[] := ARRAY[$definition$CREATE OR REPLACE FUNCTION pgevict."capture_users_55cc0495"() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
AS $pgevict$
#variable_conflict use_column
-- The queries are static: a column that is dropped must not be found among the variables.
DECLARE
  pgevict_op pg_catalog."char";
  pgevict_one pg_catalog.bool;
  pgevict_count pg_catalog.int8;
  pgevict_bytes pg_catalog.int8;
  pgevict_array pg_catalog.text[];
  pgevict_classes pg_catalog.text[];
  pgevict_journal pg_catalog.oid;
  pgevict_written pg_catalog.oid;
  -- Whether the daemon sleeps; NULL while nobody has looked.
  pgevict_ring pg_catalog.bool;
  -- Whether to look how large the journal is.
  pgevict_look pg_catalog.bool;
  pgevict_failure pg_catalog.text;
  -- hot
  -- What the caller had set.
  pgevict_kept pg_catalog.text[];
  -- end hot
  -- Rows of at most 1000 tuples and about 64 kB; a class past 50000 tuples or with a value over 1 MiB goes whole.
  pgevict_cut constant pg_catalog.text := $sql$
WITH tuple AS MATERIALIZED (
  SELECT q.tuple, q.tuple[1]::integer AS class, octet_length(array_to_string(q.tuple, '')) AS size
  FROM (pgevict_tuples) AS q
), sized AS MATERIALIZED (
  SELECT tuple, CASE WHEN class < 0 THEN -class - 1 ELSE class END AS class, size,
    CASE WHEN size > 1048576 THEN (SELECT max(octet_length(value)) FROM unnest(tuple) AS value) ELSE 0 END AS widest
  FROM tuple
), too_much AS (
  SELECT class FROM sized GROUP BY class HAVING count(*) > 50000 OR max(widest) > 1048576
), whole AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, classes)
  SELECT 3997855020671136234, 'users', 'w', $1, array_agg(class ORDER BY class) FROM too_much HAVING count(*) > 0
  RETURNING tableoid
), pieces AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples)
  SELECT 3997855020671136234, 'users', 'r', $1, array_agg(tuple) FROM (
    SELECT tuple, (row_number() OVER running - 1) / 1000 AS by_count, sum(size) OVER running / 65536 AS by_size
    FROM sized WHERE class NOT IN (SELECT class FROM too_much)
    WINDOW running AS (ROWS UNBOUNDED PRECEDING)
  ) AS piece GROUP BY by_count, by_size
  RETURNING tableoid
)
SELECT tableoid FROM whole UNION ALL SELECT tableoid FROM pieces LIMIT 1
$sql$;
BEGIN
  -- hot
  -- One row, as most statements change, whose values read the same under all settings: nothing is pinned for it, which would cost
  -- half as much as the rest. Whoever calls has a `search_path` of his own, so every name and operator here, above and in the bell says
  -- whose it is. Either this writes the row, or it does nothing and what follows does all of it. Each query answers NULL where there is
  -- nothing to write (also for no row at all), '{}' where a value's text depends on settings, and fails where there are two rows. What it
  -- costs PostgreSQL is to set the query up, not to run it: a condition that asks for a second row would cost a tenth of the trigger. (LIMIT:
  -- a plan made for a large statement would cost so much that every later run of it in the session were compiled, JIT.)
  BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT (SELECT CASE WHEN n.pgevict_there AND pg_catalog.pg_typeof(n."id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    CASE WHEN ROW(o."credits", o."id", o."plan")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."credits", n."id", n."plan")::pg_catalog.record THEN CASE WHEN ROW(o."id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."id")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."id"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text]] END END
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "credits", "id", "plan" FROM pgevict_old) AS o LEFT JOIN (SELECT true AS pgevict_there, "credits", "id", "plan" FROM pgevict_new) AS n ON true LIMIT 2) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
      pgevict_op := 'i';
      SELECT (SELECT CASE WHEN pg_catalog.pg_typeof(n."id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    ARRAY[ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text]]
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "id" FROM pgevict_new) AS n LIMIT 2) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
      pgevict_op := 'd';
      SELECT (SELECT CASE WHEN pg_catalog.pg_typeof(o."id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    ARRAY[ARRAY['0'::pg_catalog.text, o."id"::pg_catalog.text]]
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "id" FROM pgevict_old) AS o LIMIT 2) INTO pgevict_array;
    END IF;
    IF pgevict_array IS NULL AND pgevict_op IS NOT NULL THEN
      RETURN NULL;
    END IF;
    IF pgevict_array OPERATOR(pg_catalog.<>) '{}' AND pg_catalog.pg_column_size(pgevict_array) OPERATOR(pg_catalog.<=) 65536 THEN
      -- What follows waits for a lock, but not for long.
      LOCK TABLE pgevict.journal IN ROW EXCLUSIVE MODE NOWAIT;
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (3997855020671136234, 'users', 'r', pgevict_op, pgevict_array);
      -- Asked of the sequence: RETURNING costs ten times as much.
      pgevict_look := pg_catalog.mod(pg_catalog.currval('"pgevict".journal_seq_seq'::pg_catalog.regclass), 251) OPERATOR(pg_catalog.=) 0;
      -- bell
      pgevict_ring := NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, '"pgevict".journal'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int4);
      -- end bell
      IF NOT (pgevict_look OR pgevict_ring IS TRUE) THEN
        RETURN NULL;
      END IF;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
  EXCEPTION WHEN OTHERS THEN
    pgevict_journal := NULL;
    pgevict_look := NULL;
  END;
  IF pgevict_journal IS NULL THEN
    pgevict_kept := ARRAY[
      pg_catalog.current_setting('search_path'), pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('timezone'),
      pg_catalog.current_setting('datestyle'), pg_catalog.current_setting('intervalstyle'), pg_catalog.current_setting('bytea_output'),
      pg_catalog.current_setting('extra_float_digits'), pg_catalog.current_setting('lc_monetary'),
      pg_catalog.current_setting('quote_all_identifiers'), pg_catalog.current_setting('jit'), pg_catalog.current_setting('row_security')
    ];
    -- As the functions that have no short way pin them in their heads.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('lock_timeout', '250ms', true),
      pg_catalog.set_config('timezone', 'UTC', true), pg_catalog.set_config('datestyle', 'ISO, YMD', true),
      pg_catalog.set_config('intervalstyle', 'postgres', true), pg_catalog.set_config('bytea_output', 'hex', true),
      pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('lc_monetary', 'C', true),
      pg_catalog.set_config('quote_all_identifiers', 'off', true), pg_catalog.set_config('jit', 'off', true),
      pg_catalog.set_config('row_security', 'off', true);
  -- end hot
  BEGIN
    -- One row, as most statements change: one short query pairs its images and says what is to be written, NULL for
    -- nothing. Without an answer there are more rows, or none. The plans of all these queries are cached; large statements
    -- are planned for their size, and read only once.
    IF TG_OP = 'INSERT' THEN
      pgevict_op := 'i';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text]] AS tuples
  FROM (SELECT "id" FROM pgevict_new) AS n
  WHERE NOT EXISTS (SELECT FROM pgevict_new OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_new LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT CASE WHEN ROW(o."credits", o."id", o."plan")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."credits", n."id", n."plan")::pg_catalog.record THEN CASE WHEN ROW(o."id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."id")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."id"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."id"::pg_catalog.text]] END END AS tuples
  FROM (SELECT "credits", "id", "plan" FROM pgevict_old) AS o CROSS JOIN (SELECT "credits", "id", "plan" FROM pgevict_new) AS n
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH pgevict_counts AS MATERIALIZED (
  SELECT (SELECT count(*) FROM pgevict_old) <> (SELECT count(*) FROM pgevict_new) AS uneven
), r AS (
  SELECT o.p IS NOT NULL AS o,
    n.p IS NOT NULL AS n,
    o.c0 AS o0,
    o.c1 AS o1,
    o.c2 AS o2,
    n.c0 AS n0,
    n.c1 AS n1,
    n.c2 AS n2
  FROM (SELECT row_number() OVER () AS p, "credits" AS c0, "id" AS c1, "plan" AS c2
    FROM pgevict_old) AS o
  FULL JOIN (SELECT row_number() OVER () AS p, "credits" AS c0, "id" AS c1, "plan" AS c2
    FROM pgevict_new) AS n ON n.p = o.p
  WHERE ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2)::record *<> ROW(n.c0, n.c1, n.c2)::record)
), k0 AS (
  SELECT DISTINCT r.o, r.n, r.o1::text COLLATE "C" AS ov0, r.n1::text COLLATE "C" AS nv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.ov0] AS tuple FROM k0 AS k WHERE k.o
UNION ALL SELECT ARRAY['0'::text, k.nv0] AS tuple FROM k0 AS k WHERE k.n
) AS t) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'DELETE' THEN
      pgevict_op := 'd';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[ARRAY['0'::pg_catalog.text, o."id"::pg_catalog.text]] AS tuples
  FROM (SELECT "id" FROM pgevict_old) AS o
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSE
      pgevict_op := 't';
      INSERT INTO pgevict.journal (layout, tbl, kind, op) VALUES (3997855020671136234, 'users', 'w', pgevict_op)
      RETURNING tableoid INTO pgevict_journal;
    END IF;
    IF pgevict_count > 256 OR pgevict_bytes > 65536 THEN
      EXECUTE replace(replace(pgevict_cut, 'pgevict_tuples', CASE TG_OP WHEN 'INSERT' THEN $query$WITH r AS (
  SELECT "id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$ WHEN 'UPDATE' THEN $query$WITH pgevict_counts AS MATERIALIZED (
  SELECT (SELECT count(*) FROM pgevict_old) <> (SELECT count(*) FROM pgevict_new) AS uneven
), r AS (
  SELECT o.p IS NOT NULL AS o,
    n.p IS NOT NULL AS n,
    o.c0 AS o0,
    o.c1 AS o1,
    o.c2 AS o2,
    n.c0 AS n0,
    n.c1 AS n1,
    n.c2 AS n2
  FROM (SELECT row_number() OVER () AS p, "credits" AS c0, "id" AS c1, "plan" AS c2
    FROM pgevict_old) AS o
  FULL JOIN (SELECT row_number() OVER () AS p, "credits" AS c0, "id" AS c1, "plan" AS c2
    FROM pgevict_new) AS n ON n.p = o.p
  WHERE ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2)::record *<> ROW(n.c0, n.c1, n.c2)::record)
), k0 AS (
  SELECT DISTINCT r.o, r.n, r.o1::text COLLATE "C" AS ov0, r.n1::text COLLATE "C" AS nv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.ov0] AS tuple FROM k0 AS k WHERE k.o
UNION ALL SELECT ARRAY['0'::text, k.nv0] AS tuple FROM k0 AS k WHERE k.n
) AS t$query$ WHEN 'DELETE' THEN $query$WITH r AS (
  SELECT "id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$ END), '(SELECT uneven FROM pgevict_counts)',
        CASE WHEN (SELECT relkind FROM pg_class WHERE oid = TG_RELID) = 'r' THEN 'false' ELSE '(SELECT uneven FROM pgevict_counts)' END) INTO pgevict_journal USING pgevict_op;
      pgevict_look := true;
    ELSIF pgevict_array IS NOT NULL THEN
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (3997855020671136234, 'users', 'r', pgevict_op, pgevict_array)
      -- A prime, so that no habit of the application keeps step with it.
      RETURNING mod(seq, 251) = 0 INTO pgevict_look;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
    -- bell
    -- The last thing in this block, so that no error takes it back without the row: a second subtransaction would cost
    -- as much as it. The daemon holds this lock only while it sleeps. The key is the journal's oid (bit for bit: a cast
    -- of oid to integer wraps).
    IF pgevict_journal IS NOT NULL THEN
      pgevict_ring := NOT pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::integer);
    END IF;
    -- end bell
  EXCEPTION WHEN OTHERS THEN
    IF false THEN
      RAISE;
    END IF;
    pgevict_failure := SQLERRM;
    pgevict_journal := NULL;
    pgevict_look := true;
    BEGIN
      -- A statement without rows evicts nothing, however broken the capture is. (One query an operation: the others'
      -- transition tables do not exist.)
      IF TG_OP = 'INSERT' THEN
        PERFORM FROM pgevict_new LIMIT 1;
      ELSIF TG_OP <> 'TRUNCATE' THEN
        PERFORM FROM pgevict_old LIMIT 1;
      END IF;
      IF NOT FOUND AND TG_OP <> 'TRUNCATE' THEN
        pgevict_look := NULL;
      -- A lock is waited for once more, not once a class.
      ELSIF TG_OP = 'TRUNCATE' OR SQLSTATE = '55P03' THEN
        INSERT INTO pgevict.journal (layout, tbl, kind, op, note)
        VALUES (3997855020671136234, 'users', 'x', pgevict_op, left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_journal;
      ELSE
        pgevict_classes := CASE TG_OP WHEN 'INSERT' THEN ARRAY[$query$WITH r AS (
  SELECT "id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$]::text[] WHEN 'UPDATE' THEN ARRAY[$query$WITH pgevict_counts AS MATERIALIZED (
  SELECT (SELECT count(*) FROM pgevict_old) <> (SELECT count(*) FROM pgevict_new) AS uneven
), r AS (
  SELECT o.p IS NOT NULL AS o,
    n.p IS NOT NULL AS n,
    o.c0 AS o0,
    o.c1 AS o1,
    o.c2 AS o2,
    n.c0 AS n0,
    n.c1 AS n1,
    n.c2 AS n2
  FROM (SELECT row_number() OVER () AS p, "credits" AS c0, "id" AS c1, "plan" AS c2
    FROM pgevict_old) AS o
  FULL JOIN (SELECT row_number() OVER () AS p, "credits" AS c0, "id" AS c1, "plan" AS c2
    FROM pgevict_new) AS n ON n.p = o.p
  WHERE ((SELECT uneven FROM pgevict_counts) OR ROW(o.c0, o.c1, o.c2)::record *<> ROW(n.c0, n.c1, n.c2)::record)
), k0 AS (
  SELECT DISTINCT r.o, r.n, r.o1::text COLLATE "C" AS ov0, r.n1::text COLLATE "C" AS nv0
  FROM r
)
SELECT DISTINCT t.tuple FROM (
SELECT ARRAY['0'::text, k.ov0] AS tuple FROM k0 AS k WHERE k.o
UNION ALL SELECT ARRAY['0'::text, k.nv0] AS tuple FROM k0 AS k WHERE k.n
) AS t$query$]::text[] WHEN 'DELETE' THEN ARRAY[$query$WITH r AS (
  SELECT "id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$]::text[] END;
        FOR i IN 1 .. coalesce(array_length(pgevict_classes, 1), 0) LOOP
          CONTINUE WHEN pgevict_classes[i] IS NULL;
          BEGIN
            EXECUTE replace(pgevict_cut, 'pgevict_tuples', pgevict_classes[i]) INTO pgevict_written USING pgevict_op;
          EXCEPTION WHEN OTHERS THEN
            pgevict_failure := SQLERRM;
            INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, note)
            VALUES (3997855020671136234, 'users', 'x', pgevict_op, ARRAY[i - 1], left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_written;
          END;
          pgevict_journal := coalesce(pgevict_written, pgevict_journal);
        END LOOP;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      pgevict_failure := SQLERRM;
      BEGIN
        PERFORM nextval('"pgevict".lost'::pg_catalog.regclass);
      EXCEPTION WHEN OTHERS THEN
        -- A missing counter is itself what the daemon notices.
        NULL;
      END;
      RAISE WARNING USING MESSAGE = 'pgevict: a change of ' || 'users' || ' was not captured, its caches will be flushed: ' || pgevict_failure;
    END;
  END;
  -- hot
    BEGIN
      PERFORM pg_catalog.set_config('lock_timeout', pgevict_kept[2], true), pg_catalog.set_config('timezone', pgevict_kept[3], true),
        pg_catalog.set_config('datestyle', pgevict_kept[4], true), pg_catalog.set_config('intervalstyle', pgevict_kept[5], true),
        pg_catalog.set_config('bytea_output', pgevict_kept[6], true), pg_catalog.set_config('extra_float_digits', pgevict_kept[7], true),
        pg_catalog.set_config('lc_monetary', pgevict_kept[8], true), pg_catalog.set_config('quote_all_identifiers', pgevict_kept[9], true),
        pg_catalog.set_config('jit', pgevict_kept[10], true), pg_catalog.set_config('row_security', pgevict_kept[11], true),
        pg_catalog.set_config('search_path', pgevict_kept[1], true);
    EXCEPTION WHEN OTHERS THEN
      -- They end with the transaction.
      NULL;
    END;
  END IF;
  -- end hot
  -- bell
  -- After the protected block, so that an error of layer 1 does not take the ring with it. A ring that fails is made
  -- good by the daemon's slow poll. A prepared transaction may not notify, and a queue that fills would one day fail commits.
  IF pgevict_journal IS NOT NULL AND pgevict_ring IS NOT FALSE THEN
    BEGIN
      IF pgevict_ring OR NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::pg_catalog.int4) THEN
        IF pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1 THEN
          PERFORM pg_catalog.pg_notify('pgevict', '');
        END IF;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  -- end bell
  -- Nobody may be reading (relief.sql). What fails here is tried again by another writer.
  IF pgevict_look THEN
    BEGIN
      PERFORM pgevict.relieve();
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  RETURN NULL;
END
$pgevict$$definition$]::text[];
  hashes constant text[] := ARRAY['8ba18c54b05e1f31bb12cf16299da2c348f6b72072b14ca6b36ac8a708dea88e']::text[];
  marks constant text[] := ARRAY['pgevict capture 1 layout=3997855020671136234 table=users source=8ba18c54b05e1f31']::text[];
  settings constant text[] := ARRAY['']::text[];
  -- Triggers: letter, level (s statement, r row), function, and how it is enabled (O origin, A always, R replica).
  letters constant text[] := ARRAY['i', 'u', 'd', 't']::text[];
  levels constant text[] := ARRAY['s', 's', 's', 's']::text[];
  callees constant text[] := ARRAY['capture_users_55cc0495', 'capture_users_55cc0495', 'capture_users_55cc0495', 'capture_users_55cc0495']::text[];
  enabled constant text[] := ARRAY['O', 'O', 'O', 'O']::text[];
  root constant oid := pg_catalog.to_regclass(target);
  waited constant text := pg_catalog.current_setting('lock_timeout');
  missing text;
  callee oid;
  relation record;
  trigger_name text;
  present record;
  tree oid[];
  hyper boolean := false;
  event text;
BEGIN
  IF root IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = 'pgevict: the watched table ' || target || ' does not exist',
      HINT = 'Create it first, or correct its name in the configuration.';
  END IF;
  IF (SELECT relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class WHERE oid = root) THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is not a table',
      HINT = 'Changes of views and foreign tables fire no triggers: watch the tables behind it.';
  END IF;
  SELECT pg_catalog.string_agg(pg_catalog.quote_ident(c), ', ') INTO missing FROM pg_catalog.unnest(needed) AS c
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = root AND attname = c AND attnum > 0 AND NOT attisdropped);
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = 'pgevict: ' || target || ' has no column ' || missing,
      HINT = 'Correct the configuration, then make this migration again.';
  END IF;
  WITH RECURSIVE below (oid) AS (
    SELECT root UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN below ON i.inhparent = below.oid
  ) SELECT pg_catalog.array_agg(below.oid) INTO tree FROM below;
  IF pg_catalog.to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL THEN
    EXECUTE 'SELECT EXISTS (SELECT FROM _timescaledb_catalog.hypertable AS h JOIN pg_catalog.pg_namespace AS n ON n.nspname = h.schema_name'
      || ' JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name WHERE c.oid = $1)' INTO hyper USING root;
  END IF;
  IF hyper AND EXISTS (SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i WHERE levels[i] = 's' AND letters[i] <> 't') THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is a hypertable, and this migration was made for an ordinary table',
      HINT = 'Make it again where pgevict sql up can reach the database, or write capture = "row" in the section of the table.';
  END IF;
  SELECT c.relname INTO present FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (tree) AND c.relkind = 'f' LIMIT 1;
  IF FOUND AND NOT hyper THEN
    -- The executor refuses to collect transition rows from a foreign table: every write that reaches it would fail.
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' has the foreign table ' || pg_catalog.quote_ident(present.relname) || ' below it',
      HINT = 'Watch its other partitions one by one instead.';
  END IF;

  PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
  IF NOT EXISTS (SELECT FROM pgevict.layout WHERE id = layout_id) THEN
    INSERT INTO pgevict.layout (id, tbl, spec) VALUES (layout_id, layout_tbl, layout_spec);
  END IF;
  FOR i IN 1 .. pg_catalog.array_length(functions, 1) LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = functions[i] AND p.pronargs = 0 AND p.prosecdef
        AND coalesce(pg_catalog.array_to_string(p.proconfig, E'\n'), '') = settings[i]
        AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex') = hashes[i]
        AND pg_catalog.obj_description(p.oid, 'pg_proc') = marks[i]
    ) THEN
      EXECUTE definitions[i];
      EXECUTE 'REVOKE ALL ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() FROM PUBLIC';
      EXECUTE 'COMMENT ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() IS '
        || pg_catalog.quote_literal(marks[i]);
    END IF;
  END LOOP;

  FOR relation IN
    SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name, c.relkind
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (tree) ORDER BY c.oid = root DESC, 2
  LOOP
    FOR i IN 1 .. pg_catalog.array_length(letters, 1) LOOP
      -- Row triggers of a partitioned table are cloned to its partitions: the partitions have their own.
      CONTINUE WHEN levels[i] = 'r' AND relation.relkind = 'p';
      -- A chunk has the hypertable's row triggers, under their names; a tiered one is a foreign table, which is only read.
      CONTINUE WHEN hyper AND relation.oid <> root AND (levels[i] <> 'r' OR relation.relkind <> 'r');
      trigger_name := 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
        || CASE WHEN relation.oid = root OR hyper THEN '' ELSE '_' || suffix END;
      SELECT p.oid INTO callee FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = callees[i] AND p.pronargs = 0;
      SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t
      WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name AND t.tgfoid = callee AND t.tgattr::text = '' AND t.tgqual IS NULL
        -- Bits of tgtype: 1 row, 4 insert, 8 delete, 16 update, 32 truncate.
        AND t.tgtype = CASE letters[i] WHEN 'i' THEN 4 WHEN 'd' THEN 8 WHEN 'u' THEN 16 ELSE 32 END + CASE levels[i] WHEN 'r' THEN 1 ELSE 0 END
        AND t.tgoldtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN 'pgevict_old' END
        AND t.tgnewtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN 'pgevict_new' END;
      IF NOT FOUND THEN
        event := CASE letters[i] WHEN 'i' THEN 'INSERT' WHEN 'u' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'TRUNCATE' END;
        IF hyper AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name) THEN
          -- Timescale does not replace the clones.
          EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(trigger_name) || ' ON ' || relation.name;
        END IF;
        EXECUTE CASE WHEN hyper THEN 'CREATE TRIGGER ' ELSE 'CREATE OR REPLACE TRIGGER ' END || pg_catalog.quote_ident(trigger_name) || ' AFTER ' || event || ' ON ' || relation.name
          || CASE WHEN levels[i] = 's' AND letters[i] <> 't' THEN ' REFERENCING' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN ' OLD TABLE AS pgevict_old' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN ' NEW TABLE AS pgevict_new' ELSE '' END
          || CASE levels[i] WHEN 'r' THEN ' FOR EACH ROW' ELSE ' FOR EACH STATEMENT' END
          || ' EXECUTE FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(callees[i]) || '()';
        SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name;
      END IF;
      IF present.tgenabled::text <> enabled[i] THEN
        EXECUTE CASE WHEN hyper THEN 'ALTER TABLE ' ELSE 'ALTER TABLE ONLY ' END || relation.name
          || CASE enabled[i] WHEN 'A' THEN ' ENABLE ALWAYS TRIGGER ' WHEN 'R' THEN ' ENABLE REPLICA TRIGGER ' ELSE ' ENABLE TRIGGER ' END
          || pg_catalog.quote_ident(trigger_name);
      END IF;
    END LOOP;
  END LOOP;

  -- Triggers of ours that are not wanted any more: detached partitions, operations that no edge counts, renamed tables.
  FOR relation IN
    SELECT t.oid, t.tgname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE pn.nspname = ns AND p.proname IN ('capture_users_55cc0495', 'capture_row_users_55cc0495') AND NOT (
      t.tgrelid = ANY (tree)
      AND EXISTS (
        SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i
        WHERE t.tgname = 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
          || CASE WHEN t.tgrelid = root OR hyper AND levels[i] = 'r' THEN '' ELSE '_' || suffix END
          AND p.proname = callees[i]
      )
    )
  LOOP
    -- The clones on chunks go with the trigger of their hypertable.
    CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.oid = relation.oid);
    EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(relation.tgname) || ' ON ' || relation.name;
  END LOOP;
  FOR relation IN
    SELECT p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = ns AND p.proname IN ('capture_users_55cc0495', 'capture_row_users_55cc0495') AND p.proname <> ALL (functions)
  LOOP
    EXECUTE 'DROP FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(relation.proname) || '()';
  END LOOP;
  PERFORM pg_catalog.set_config('lock_timeout', waited, true);
END
$pgevict_table$;

-- capture of table agent_analytics
DO $pgevict_table$
DECLARE
  ns constant text := 'pgevict';
  target constant text := '"public"."agent_analytics"';
  suffix constant text := '472572d3';
  layout_id constant bigint := 7827135883180513747;
  layout_tbl constant text := 'agent_analytics';
  layout_spec constant text := '{"v": 1,"schema": "public","table": "agent_analytics","always": false,"closed": false,"classes": [{"ops": "iud","columns": null,"when": [],"values": [{"column": "agent_id","lookup": null}],"edges": [{"cache": "agent_performance","holes": {"agent_id": 0},"via": null}]}]}';
  needed constant text[] := ARRAY['agent_id']::text[];
  -- Functions, and per function: what makes it, the SHA-256 of its source, the mark that `sql diff` compares, and what it pins, one a line.
  functions constant text[] := ARRAY['capture_agent_analytics_472572d3']::text[];
  definitions constant text[] := ARRAY[$definition$CREATE OR REPLACE FUNCTION pgevict."capture_agent_analytics_472572d3"() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
AS $pgevict$
#variable_conflict use_column
-- The queries are static: a column that is dropped must not be found among the variables.
DECLARE
  pgevict_op pg_catalog."char";
  pgevict_one pg_catalog.bool;
  pgevict_count pg_catalog.int8;
  pgevict_bytes pg_catalog.int8;
  pgevict_array pg_catalog.text[];
  pgevict_classes pg_catalog.text[];
  pgevict_journal pg_catalog.oid;
  pgevict_written pg_catalog.oid;
  -- Whether the daemon sleeps; NULL while nobody has looked.
  pgevict_ring pg_catalog.bool;
  -- Whether to look how large the journal is.
  pgevict_look pg_catalog.bool;
  pgevict_failure pg_catalog.text;
  -- hot
  -- What the caller had set.
  pgevict_kept pg_catalog.text[];
  -- end hot
  -- Rows of at most 1000 tuples and about 64 kB; a class past 50000 tuples or with a value over 1 MiB goes whole.
  pgevict_cut constant pg_catalog.text := $sql$
WITH tuple AS MATERIALIZED (
  SELECT q.tuple, q.tuple[1]::integer AS class, octet_length(array_to_string(q.tuple, '')) AS size
  FROM (pgevict_tuples) AS q
), sized AS MATERIALIZED (
  SELECT tuple, CASE WHEN class < 0 THEN -class - 1 ELSE class END AS class, size,
    CASE WHEN size > 1048576 THEN (SELECT max(octet_length(value)) FROM unnest(tuple) AS value) ELSE 0 END AS widest
  FROM tuple
), too_much AS (
  SELECT class FROM sized GROUP BY class HAVING count(*) > 50000 OR max(widest) > 1048576
), whole AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, classes)
  SELECT 7827135883180513747, 'agent_analytics', 'w', $1, array_agg(class ORDER BY class) FROM too_much HAVING count(*) > 0
  RETURNING tableoid
), pieces AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples)
  SELECT 7827135883180513747, 'agent_analytics', 'r', $1, array_agg(tuple) FROM (
    SELECT tuple, (row_number() OVER running - 1) / 1000 AS by_count, sum(size) OVER running / 65536 AS by_size
    FROM sized WHERE class NOT IN (SELECT class FROM too_much)
    WINDOW running AS (ROWS UNBOUNDED PRECEDING)
  ) AS piece GROUP BY by_count, by_size
  RETURNING tableoid
)
SELECT tableoid FROM whole UNION ALL SELECT tableoid FROM pieces LIMIT 1
$sql$;
BEGIN
  -- hot
  -- One row, as most statements change, whose values read the same under all settings: nothing is pinned for it, which would cost
  -- half as much as the rest. Whoever calls has a `search_path` of his own, so every name and operator here, above and in the bell says
  -- whose it is. Either this writes the row, or it does nothing and what follows does all of it. Each query answers NULL where there is
  -- nothing to write (also for no row at all), '{}' where a value's text depends on settings, and fails where there are two rows. What it
  -- costs PostgreSQL is to set the query up, not to run it: a condition that asks for a second row would cost a tenth of the trigger. (LIMIT:
  -- a plan made for a large statement would cost so much that every later run of it in the session were compiled, JIT.)
  BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT (SELECT CASE WHEN n.pgevict_there AND pg_catalog.pg_typeof(n."agent_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    CASE WHEN ROW(o."agent_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."agent_id")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."agent_id"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."agent_id"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."agent_id"::pg_catalog.text]] END
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "agent_id" FROM pgevict_old) AS o LEFT JOIN (SELECT true AS pgevict_there, "agent_id" FROM pgevict_new) AS n ON true LIMIT 2) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
      pgevict_op := 'i';
      SELECT (SELECT CASE WHEN pg_catalog.pg_typeof(n."agent_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    ARRAY[ARRAY['0'::pg_catalog.text, n."agent_id"::pg_catalog.text]]
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "agent_id" FROM pgevict_new) AS n LIMIT 2) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
      pgevict_op := 'd';
      SELECT (SELECT CASE WHEN pg_catalog.pg_typeof(o."agent_id") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    ARRAY[ARRAY['0'::pg_catalog.text, o."agent_id"::pg_catalog.text]]
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "agent_id" FROM pgevict_old) AS o LIMIT 2) INTO pgevict_array;
    END IF;
    IF pgevict_array IS NULL AND pgevict_op IS NOT NULL THEN
      RETURN NULL;
    END IF;
    IF pgevict_array OPERATOR(pg_catalog.<>) '{}' AND pg_catalog.pg_column_size(pgevict_array) OPERATOR(pg_catalog.<=) 65536 THEN
      -- What follows waits for a lock, but not for long.
      LOCK TABLE pgevict.journal IN ROW EXCLUSIVE MODE NOWAIT;
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (7827135883180513747, 'agent_analytics', 'r', pgevict_op, pgevict_array);
      -- Asked of the sequence: RETURNING costs ten times as much.
      pgevict_look := pg_catalog.mod(pg_catalog.currval('"pgevict".journal_seq_seq'::pg_catalog.regclass), 251) OPERATOR(pg_catalog.=) 0;
      -- bell
      pgevict_ring := NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, '"pgevict".journal'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int4);
      -- end bell
      IF NOT (pgevict_look OR pgevict_ring IS TRUE) THEN
        RETURN NULL;
      END IF;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
  EXCEPTION WHEN OTHERS THEN
    pgevict_journal := NULL;
    pgevict_look := NULL;
  END;
  IF pgevict_journal IS NULL THEN
    pgevict_kept := ARRAY[
      pg_catalog.current_setting('search_path'), pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('timezone'),
      pg_catalog.current_setting('datestyle'), pg_catalog.current_setting('intervalstyle'), pg_catalog.current_setting('bytea_output'),
      pg_catalog.current_setting('extra_float_digits'), pg_catalog.current_setting('lc_monetary'),
      pg_catalog.current_setting('quote_all_identifiers'), pg_catalog.current_setting('jit'), pg_catalog.current_setting('row_security')
    ];
    -- As the functions that have no short way pin them in their heads.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('lock_timeout', '250ms', true),
      pg_catalog.set_config('timezone', 'UTC', true), pg_catalog.set_config('datestyle', 'ISO, YMD', true),
      pg_catalog.set_config('intervalstyle', 'postgres', true), pg_catalog.set_config('bytea_output', 'hex', true),
      pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('lc_monetary', 'C', true),
      pg_catalog.set_config('quote_all_identifiers', 'off', true), pg_catalog.set_config('jit', 'off', true),
      pg_catalog.set_config('row_security', 'off', true);
  -- end hot
  BEGIN
    -- One row, as most statements change: one short query pairs its images and says what is to be written, NULL for
    -- nothing. Without an answer there are more rows, or none. The plans of all these queries are cached; large statements
    -- are planned for their size, and read only once.
    IF TG_OP = 'INSERT' THEN
      pgevict_op := 'i';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[ARRAY['0'::pg_catalog.text, n."agent_id"::pg_catalog.text]] AS tuples
  FROM (SELECT "agent_id" FROM pgevict_new) AS n
  WHERE NOT EXISTS (SELECT FROM pgevict_new OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_new LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT CASE WHEN ROW(o."agent_id")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."agent_id")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."agent_id"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."agent_id"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."agent_id"::pg_catalog.text]] END AS tuples
  FROM (SELECT "agent_id" FROM pgevict_old) AS o CROSS JOIN (SELECT "agent_id" FROM pgevict_new) AS n
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_old
  UNION ALL SELECT "agent_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'DELETE' THEN
      pgevict_op := 'd';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT ARRAY[ARRAY['0'::pg_catalog.text, o."agent_id"::pg_catalog.text]] AS tuples
  FROM (SELECT "agent_id" FROM pgevict_old) AS o
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSE
      pgevict_op := 't';
      INSERT INTO pgevict.journal (layout, tbl, kind, op) VALUES (7827135883180513747, 'agent_analytics', 'w', pgevict_op)
      RETURNING tableoid INTO pgevict_journal;
    END IF;
    IF pgevict_count > 256 OR pgevict_bytes > 65536 THEN
      EXECUTE replace(replace(pgevict_cut, 'pgevict_tuples', CASE TG_OP WHEN 'INSERT' THEN $query$WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$ WHEN 'UPDATE' THEN $query$WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_old
  UNION ALL SELECT "agent_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$ WHEN 'DELETE' THEN $query$WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$ END), '(SELECT uneven FROM pgevict_counts)',
        CASE WHEN (SELECT relkind FROM pg_class WHERE oid = TG_RELID) = 'r' THEN 'false' ELSE '(SELECT uneven FROM pgevict_counts)' END) INTO pgevict_journal USING pgevict_op;
      pgevict_look := true;
    ELSIF pgevict_array IS NOT NULL THEN
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (7827135883180513747, 'agent_analytics', 'r', pgevict_op, pgevict_array)
      -- A prime, so that no habit of the application keeps step with it.
      RETURNING mod(seq, 251) = 0 INTO pgevict_look;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
    -- bell
    -- The last thing in this block, so that no error takes it back without the row: a second subtransaction would cost
    -- as much as it. The daemon holds this lock only while it sleeps. The key is the journal's oid (bit for bit: a cast
    -- of oid to integer wraps).
    IF pgevict_journal IS NOT NULL THEN
      pgevict_ring := NOT pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::integer);
    END IF;
    -- end bell
  EXCEPTION WHEN OTHERS THEN
    IF false THEN
      RAISE;
    END IF;
    pgevict_failure := SQLERRM;
    pgevict_journal := NULL;
    pgevict_look := true;
    BEGIN
      -- A statement without rows evicts nothing, however broken the capture is. (One query an operation: the others'
      -- transition tables do not exist.)
      IF TG_OP = 'INSERT' THEN
        PERFORM FROM pgevict_new LIMIT 1;
      ELSIF TG_OP <> 'TRUNCATE' THEN
        PERFORM FROM pgevict_old LIMIT 1;
      END IF;
      IF NOT FOUND AND TG_OP <> 'TRUNCATE' THEN
        pgevict_look := NULL;
      -- A lock is waited for once more, not once a class.
      ELSIF TG_OP = 'TRUNCATE' OR SQLSTATE = '55P03' THEN
        INSERT INTO pgevict.journal (layout, tbl, kind, op, note)
        VALUES (7827135883180513747, 'agent_analytics', 'x', pgevict_op, left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_journal;
      ELSE
        pgevict_classes := CASE TG_OP WHEN 'INSERT' THEN ARRAY[$query$WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$]::text[] WHEN 'UPDATE' THEN ARRAY[$query$WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_old
  UNION ALL SELECT "agent_id" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$]::text[] WHEN 'DELETE' THEN ARRAY[$query$WITH r AS (
  SELECT "agent_id" AS c0 FROM pgevict_old
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$]::text[] END;
        FOR i IN 1 .. coalesce(array_length(pgevict_classes, 1), 0) LOOP
          CONTINUE WHEN pgevict_classes[i] IS NULL;
          BEGIN
            EXECUTE replace(pgevict_cut, 'pgevict_tuples', pgevict_classes[i]) INTO pgevict_written USING pgevict_op;
          EXCEPTION WHEN OTHERS THEN
            pgevict_failure := SQLERRM;
            INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, note)
            VALUES (7827135883180513747, 'agent_analytics', 'x', pgevict_op, ARRAY[i - 1], left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_written;
          END;
          pgevict_journal := coalesce(pgevict_written, pgevict_journal);
        END LOOP;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      pgevict_failure := SQLERRM;
      BEGIN
        PERFORM nextval('"pgevict".lost'::pg_catalog.regclass);
      EXCEPTION WHEN OTHERS THEN
        -- A missing counter is itself what the daemon notices.
        NULL;
      END;
      RAISE WARNING USING MESSAGE = 'pgevict: a change of ' || 'agent_analytics' || ' was not captured, its caches will be flushed: ' || pgevict_failure;
    END;
  END;
  -- hot
    BEGIN
      PERFORM pg_catalog.set_config('lock_timeout', pgevict_kept[2], true), pg_catalog.set_config('timezone', pgevict_kept[3], true),
        pg_catalog.set_config('datestyle', pgevict_kept[4], true), pg_catalog.set_config('intervalstyle', pgevict_kept[5], true),
        pg_catalog.set_config('bytea_output', pgevict_kept[6], true), pg_catalog.set_config('extra_float_digits', pgevict_kept[7], true),
        pg_catalog.set_config('lc_monetary', pgevict_kept[8], true), pg_catalog.set_config('quote_all_identifiers', pgevict_kept[9], true),
        pg_catalog.set_config('jit', pgevict_kept[10], true), pg_catalog.set_config('row_security', pgevict_kept[11], true),
        pg_catalog.set_config('search_path', pgevict_kept[1], true);
    EXCEPTION WHEN OTHERS THEN
      -- They end with the transaction.
      NULL;
    END;
  END IF;
  -- end hot
  -- bell
  -- After the protected block, so that an error of layer 1 does not take the ring with it. A ring that fails is made
  -- good by the daemon's slow poll. A prepared transaction may not notify, and a queue that fills would one day fail commits.
  IF pgevict_journal IS NOT NULL AND pgevict_ring IS NOT FALSE THEN
    BEGIN
      IF pgevict_ring OR NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::pg_catalog.int4) THEN
        IF pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1 THEN
          PERFORM pg_catalog.pg_notify('pgevict', '');
        END IF;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  -- end bell
  -- Nobody may be reading (relief.sql). What fails here is tried again by another writer.
  IF pgevict_look THEN
    BEGIN
      PERFORM pgevict.relieve();
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  RETURN NULL;
END
$pgevict$$definition$]::text[];
  hashes constant text[] := ARRAY['d317dbe47fb0b9a43c49b0b0c3d1732f634a1d6fc03420e8cd246764ceea766b']::text[];
  marks constant text[] := ARRAY['pgevict capture 1 layout=7827135883180513747 table=agent_analytics source=d317dbe47fb0b9a4']::text[];
  settings constant text[] := ARRAY['']::text[];
  -- Triggers: letter, level (s statement, r row), function, and how it is enabled (O origin, A always, R replica).
  letters constant text[] := ARRAY['i', 'u', 'd', 't']::text[];
  levels constant text[] := ARRAY['s', 's', 's', 's']::text[];
  callees constant text[] := ARRAY['capture_agent_analytics_472572d3', 'capture_agent_analytics_472572d3', 'capture_agent_analytics_472572d3', 'capture_agent_analytics_472572d3']::text[];
  enabled constant text[] := ARRAY['O', 'O', 'O', 'O']::text[];
  root constant oid := pg_catalog.to_regclass(target);
  waited constant text := pg_catalog.current_setting('lock_timeout');
  missing text;
  callee oid;
  relation record;
  trigger_name text;
  present record;
  tree oid[];
  hyper boolean := false;
  event text;
BEGIN
  IF root IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = 'pgevict: the watched table ' || target || ' does not exist',
      HINT = 'Create it first, or correct its name in the configuration.';
  END IF;
  IF (SELECT relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class WHERE oid = root) THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is not a table',
      HINT = 'Changes of views and foreign tables fire no triggers: watch the tables behind it.';
  END IF;
  SELECT pg_catalog.string_agg(pg_catalog.quote_ident(c), ', ') INTO missing FROM pg_catalog.unnest(needed) AS c
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = root AND attname = c AND attnum > 0 AND NOT attisdropped);
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = 'pgevict: ' || target || ' has no column ' || missing,
      HINT = 'Correct the configuration, then make this migration again.';
  END IF;
  WITH RECURSIVE below (oid) AS (
    SELECT root UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN below ON i.inhparent = below.oid
  ) SELECT pg_catalog.array_agg(below.oid) INTO tree FROM below;
  IF pg_catalog.to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL THEN
    EXECUTE 'SELECT EXISTS (SELECT FROM _timescaledb_catalog.hypertable AS h JOIN pg_catalog.pg_namespace AS n ON n.nspname = h.schema_name'
      || ' JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name WHERE c.oid = $1)' INTO hyper USING root;
  END IF;
  IF hyper AND EXISTS (SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i WHERE levels[i] = 's' AND letters[i] <> 't') THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is a hypertable, and this migration was made for an ordinary table',
      HINT = 'Make it again where pgevict sql up can reach the database, or write capture = "row" in the section of the table.';
  END IF;
  SELECT c.relname INTO present FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (tree) AND c.relkind = 'f' LIMIT 1;
  IF FOUND AND NOT hyper THEN
    -- The executor refuses to collect transition rows from a foreign table: every write that reaches it would fail.
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' has the foreign table ' || pg_catalog.quote_ident(present.relname) || ' below it',
      HINT = 'Watch its other partitions one by one instead.';
  END IF;

  PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
  IF NOT EXISTS (SELECT FROM pgevict.layout WHERE id = layout_id) THEN
    INSERT INTO pgevict.layout (id, tbl, spec) VALUES (layout_id, layout_tbl, layout_spec);
  END IF;
  FOR i IN 1 .. pg_catalog.array_length(functions, 1) LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = functions[i] AND p.pronargs = 0 AND p.prosecdef
        AND coalesce(pg_catalog.array_to_string(p.proconfig, E'\n'), '') = settings[i]
        AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex') = hashes[i]
        AND pg_catalog.obj_description(p.oid, 'pg_proc') = marks[i]
    ) THEN
      EXECUTE definitions[i];
      EXECUTE 'REVOKE ALL ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() FROM PUBLIC';
      EXECUTE 'COMMENT ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() IS '
        || pg_catalog.quote_literal(marks[i]);
    END IF;
  END LOOP;

  FOR relation IN
    SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name, c.relkind
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (tree) ORDER BY c.oid = root DESC, 2
  LOOP
    FOR i IN 1 .. pg_catalog.array_length(letters, 1) LOOP
      -- Row triggers of a partitioned table are cloned to its partitions: the partitions have their own.
      CONTINUE WHEN levels[i] = 'r' AND relation.relkind = 'p';
      -- A chunk has the hypertable's row triggers, under their names; a tiered one is a foreign table, which is only read.
      CONTINUE WHEN hyper AND relation.oid <> root AND (levels[i] <> 'r' OR relation.relkind <> 'r');
      trigger_name := 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
        || CASE WHEN relation.oid = root OR hyper THEN '' ELSE '_' || suffix END;
      SELECT p.oid INTO callee FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = callees[i] AND p.pronargs = 0;
      SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t
      WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name AND t.tgfoid = callee AND t.tgattr::text = '' AND t.tgqual IS NULL
        -- Bits of tgtype: 1 row, 4 insert, 8 delete, 16 update, 32 truncate.
        AND t.tgtype = CASE letters[i] WHEN 'i' THEN 4 WHEN 'd' THEN 8 WHEN 'u' THEN 16 ELSE 32 END + CASE levels[i] WHEN 'r' THEN 1 ELSE 0 END
        AND t.tgoldtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN 'pgevict_old' END
        AND t.tgnewtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN 'pgevict_new' END;
      IF NOT FOUND THEN
        event := CASE letters[i] WHEN 'i' THEN 'INSERT' WHEN 'u' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'TRUNCATE' END;
        IF hyper AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name) THEN
          -- Timescale does not replace the clones.
          EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(trigger_name) || ' ON ' || relation.name;
        END IF;
        EXECUTE CASE WHEN hyper THEN 'CREATE TRIGGER ' ELSE 'CREATE OR REPLACE TRIGGER ' END || pg_catalog.quote_ident(trigger_name) || ' AFTER ' || event || ' ON ' || relation.name
          || CASE WHEN levels[i] = 's' AND letters[i] <> 't' THEN ' REFERENCING' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN ' OLD TABLE AS pgevict_old' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN ' NEW TABLE AS pgevict_new' ELSE '' END
          || CASE levels[i] WHEN 'r' THEN ' FOR EACH ROW' ELSE ' FOR EACH STATEMENT' END
          || ' EXECUTE FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(callees[i]) || '()';
        SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name;
      END IF;
      IF present.tgenabled::text <> enabled[i] THEN
        EXECUTE CASE WHEN hyper THEN 'ALTER TABLE ' ELSE 'ALTER TABLE ONLY ' END || relation.name
          || CASE enabled[i] WHEN 'A' THEN ' ENABLE ALWAYS TRIGGER ' WHEN 'R' THEN ' ENABLE REPLICA TRIGGER ' ELSE ' ENABLE TRIGGER ' END
          || pg_catalog.quote_ident(trigger_name);
      END IF;
    END LOOP;
  END LOOP;

  -- Triggers of ours that are not wanted any more: detached partitions, operations that no edge counts, renamed tables.
  FOR relation IN
    SELECT t.oid, t.tgname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE pn.nspname = ns AND p.proname IN ('capture_agent_analytics_472572d3', 'capture_row_agent_analytics_472572d3') AND NOT (
      t.tgrelid = ANY (tree)
      AND EXISTS (
        SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i
        WHERE t.tgname = 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
          || CASE WHEN t.tgrelid = root OR hyper AND levels[i] = 'r' THEN '' ELSE '_' || suffix END
          AND p.proname = callees[i]
      )
    )
  LOOP
    -- The clones on chunks go with the trigger of their hypertable.
    CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.oid = relation.oid);
    EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(relation.tgname) || ' ON ' || relation.name;
  END LOOP;
  FOR relation IN
    SELECT p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = ns AND p.proname IN ('capture_agent_analytics_472572d3', 'capture_row_agent_analytics_472572d3') AND p.proname <> ALL (functions)
  LOOP
    EXECUTE 'DROP FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(relation.proname) || '()';
  END LOOP;
  PERFORM pg_catalog.set_config('lock_timeout', waited, true);
END
$pgevict_table$;

-- capture of table pgevict.probe
DO $pgevict_table$
DECLARE
  ns constant text := 'pgevict';
  target constant text := '"pgevict"."probe"';
  suffix constant text := '058f2f90';
  layout_id constant bigint := 3459564420998603401;
  layout_tbl constant text := 'pgevict.probe';
  layout_spec constant text := '{"v": 1,"schema": "pgevict","table": "probe","always": false,"closed": true,"classes": [{"ops": "u","columns": null,"when": [],"values": [{"column": "nonce","lookup": null}],"edges": [{"cache": "probe","holes": {"nonce": 0},"via": null}]}]}';
  needed constant text[] := ARRAY['nonce']::text[];
  -- Functions, and per function: what makes it, the SHA-256 of its source, the mark that `sql diff` compares, and what it pins, one a line.
  functions constant text[] := ARRAY['capture_probe_058f2f90']::text[];
  definitions constant text[] := ARRAY[$definition$CREATE OR REPLACE FUNCTION pgevict."capture_probe_058f2f90"() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
AS $pgevict$
#variable_conflict use_column
-- The queries are static: a column that is dropped must not be found among the variables.
DECLARE
  pgevict_op pg_catalog."char";
  pgevict_one pg_catalog.bool;
  pgevict_count pg_catalog.int8;
  pgevict_bytes pg_catalog.int8;
  pgevict_array pg_catalog.text[];
  pgevict_classes pg_catalog.text[];
  pgevict_journal pg_catalog.oid;
  pgevict_written pg_catalog.oid;
  -- Whether the daemon sleeps; NULL while nobody has looked.
  pgevict_ring pg_catalog.bool;
  -- Whether to look how large the journal is.
  pgevict_look pg_catalog.bool;
  pgevict_failure pg_catalog.text;
  -- hot
  -- What the caller had set.
  pgevict_kept pg_catalog.text[];
  -- end hot
  -- Rows of at most 1000 tuples and about 64 kB; a class past 50000 tuples or with a value over 1 MiB goes whole.
  pgevict_cut constant pg_catalog.text := $sql$
WITH tuple AS MATERIALIZED (
  SELECT q.tuple, q.tuple[1]::integer AS class, octet_length(array_to_string(q.tuple, '')) AS size
  FROM (pgevict_tuples) AS q
), sized AS MATERIALIZED (
  SELECT tuple, CASE WHEN class < 0 THEN -class - 1 ELSE class END AS class, size,
    CASE WHEN size > 1048576 THEN (SELECT max(octet_length(value)) FROM unnest(tuple) AS value) ELSE 0 END AS widest
  FROM tuple
), too_much AS (
  SELECT class FROM sized GROUP BY class HAVING count(*) > 50000 OR max(widest) > 1048576
), whole AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, classes)
  SELECT 3459564420998603401, 'pgevict.probe', 'w', $1, array_agg(class ORDER BY class) FROM too_much HAVING count(*) > 0
  RETURNING tableoid
), pieces AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples)
  SELECT 3459564420998603401, 'pgevict.probe', 'r', $1, array_agg(tuple) FROM (
    SELECT tuple, (row_number() OVER running - 1) / 1000 AS by_count, sum(size) OVER running / 65536 AS by_size
    FROM sized WHERE class NOT IN (SELECT class FROM too_much)
    WINDOW running AS (ROWS UNBOUNDED PRECEDING)
  ) AS piece GROUP BY by_count, by_size
  RETURNING tableoid
)
SELECT tableoid FROM whole UNION ALL SELECT tableoid FROM pieces LIMIT 1
$sql$;
BEGIN
  -- hot
  -- One row, as most statements change, whose values read the same under all settings: nothing is pinned for it, which would cost
  -- half as much as the rest. Whoever calls has a `search_path` of his own, so every name and operator here, above and in the bell says
  -- whose it is. Either this writes the row, or it does nothing and what follows does all of it. Each query answers NULL where there is
  -- nothing to write (also for no row at all), '{}' where a value's text depends on settings, and fails where there are two rows. What it
  -- costs PostgreSQL is to set the query up, not to run it: a condition that asks for a second row would cost a tenth of the trigger. (LIMIT:
  -- a plan made for a large statement would cost so much that every later run of it in the session were compiled, JIT.)
  BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT (SELECT CASE WHEN n.pgevict_there AND pg_catalog.pg_typeof(n."nonce") OPERATOR(pg_catalog.=) ANY ('{16,18,19,20,21,23,25,26,114,829,869,1042,1043,1700,2950,3802}'::pg_catalog.oid[]) THEN
    CASE WHEN ROW(o."nonce")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."nonce")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."nonce"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."nonce"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."nonce"::pg_catalog.text]] END
    ELSE '{}'::pg_catalog.text[] END AS tuples
  FROM (SELECT "nonce" FROM pgevict_old) AS o LEFT JOIN (SELECT true AS pgevict_there, "nonce" FROM pgevict_new) AS n ON true LIMIT 2) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
      pgevict_op := 'i';
      SELECT (SELECT NULL::pg_catalog.text[] AS tuples) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
      pgevict_op := 'd';
      SELECT (SELECT NULL::pg_catalog.text[] AS tuples) INTO pgevict_array;
    END IF;
    IF pgevict_array IS NULL AND pgevict_op IS NOT NULL THEN
      RETURN NULL;
    END IF;
    IF pgevict_array OPERATOR(pg_catalog.<>) '{}' AND pg_catalog.pg_column_size(pgevict_array) OPERATOR(pg_catalog.<=) 65536 THEN
      -- What follows waits for a lock, but not for long.
      LOCK TABLE pgevict.journal IN ROW EXCLUSIVE MODE NOWAIT;
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (3459564420998603401, 'pgevict.probe', 'r', pgevict_op, pgevict_array);
      -- Asked of the sequence: RETURNING costs ten times as much.
      pgevict_look := pg_catalog.mod(pg_catalog.currval('"pgevict".journal_seq_seq'::pg_catalog.regclass), 251) OPERATOR(pg_catalog.=) 0;
      -- bell
      pgevict_ring := NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, '"pgevict".journal'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int4);
      -- end bell
      IF NOT (pgevict_look OR pgevict_ring IS TRUE) THEN
        RETURN NULL;
      END IF;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
  EXCEPTION WHEN OTHERS THEN
    pgevict_journal := NULL;
    pgevict_look := NULL;
  END;
  IF pgevict_journal IS NULL THEN
    pgevict_kept := ARRAY[
      pg_catalog.current_setting('search_path'), pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('timezone'),
      pg_catalog.current_setting('datestyle'), pg_catalog.current_setting('intervalstyle'), pg_catalog.current_setting('bytea_output'),
      pg_catalog.current_setting('extra_float_digits'), pg_catalog.current_setting('lc_monetary'),
      pg_catalog.current_setting('quote_all_identifiers'), pg_catalog.current_setting('jit'), pg_catalog.current_setting('row_security')
    ];
    -- As the functions that have no short way pin them in their heads.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('lock_timeout', '250ms', true),
      pg_catalog.set_config('timezone', 'UTC', true), pg_catalog.set_config('datestyle', 'ISO, YMD', true),
      pg_catalog.set_config('intervalstyle', 'postgres', true), pg_catalog.set_config('bytea_output', 'hex', true),
      pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('lc_monetary', 'C', true),
      pg_catalog.set_config('quote_all_identifiers', 'off', true), pg_catalog.set_config('jit', 'off', true),
      pg_catalog.set_config('row_security', 'off', true);
  -- end hot
  BEGIN
    -- One row, as most statements change: one short query pairs its images and says what is to be written, NULL for
    -- nothing. Without an answer there are more rows, or none. The plans of all these queries are cached; large statements
    -- are planned for their size, and read only once.
    IF TG_OP = 'INSERT' THEN
      pgevict_op := 'i';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT NULL::pg_catalog.text[] AS tuples) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_new LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (SELECT NULL::text[] AS tuple WHERE false) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT CASE WHEN ROW(o."nonce")::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW(n."nonce")::pg_catalog.record THEN ARRAY[ARRAY['0'::pg_catalog.text, o."nonce"::pg_catalog.text], ARRAY['0'::pg_catalog.text, n."nonce"::pg_catalog.text]] ELSE ARRAY[ARRAY['0'::pg_catalog.text, n."nonce"::pg_catalog.text]] END AS tuples
  FROM (SELECT "nonce" FROM pgevict_old) AS o CROSS JOIN (SELECT "nonce" FROM pgevict_new) AS n
  WHERE NOT EXISTS (SELECT FROM pgevict_old OFFSET 1)) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (WITH r AS (
  SELECT "nonce" AS c0 FROM pgevict_old
  UNION ALL SELECT "nonce" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'DELETE' THEN
      pgevict_op := 'd';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (SELECT NULL::pg_catalog.text[] AS tuples) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (SELECT NULL::text[] AS tuple WHERE false) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSE
      pgevict_op := 't';
      INSERT INTO pgevict.journal (layout, tbl, kind, op) VALUES (3459564420998603401, 'pgevict.probe', 'w', pgevict_op)
      RETURNING tableoid INTO pgevict_journal;
    END IF;
    IF pgevict_count > 256 OR pgevict_bytes > 65536 THEN
      EXECUTE replace(replace(pgevict_cut, 'pgevict_tuples', CASE TG_OP WHEN 'UPDATE' THEN $query$WITH r AS (
  SELECT "nonce" AS c0 FROM pgevict_old
  UNION ALL SELECT "nonce" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$ END), '(SELECT uneven FROM pgevict_counts)',
        CASE WHEN (SELECT relkind FROM pg_class WHERE oid = TG_RELID) = 'r' THEN 'false' ELSE '(SELECT uneven FROM pgevict_counts)' END) INTO pgevict_journal USING pgevict_op;
      pgevict_look := true;
    ELSIF pgevict_array IS NOT NULL THEN
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (3459564420998603401, 'pgevict.probe', 'r', pgevict_op, pgevict_array)
      -- A prime, so that no habit of the application keeps step with it.
      RETURNING mod(seq, 251) = 0 INTO pgevict_look;
      pgevict_journal := '"pgevict".journal'::pg_catalog.regclass;
    END IF;
    -- bell
    -- The last thing in this block, so that no error takes it back without the row: a second subtransaction would cost
    -- as much as it. The daemon holds this lock only while it sleeps. The key is the journal's oid (bit for bit: a cast
    -- of oid to integer wraps).
    IF pgevict_journal IS NOT NULL THEN
      pgevict_ring := NOT pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::integer);
    END IF;
    -- end bell
  EXCEPTION WHEN OTHERS THEN
    IF true THEN
      RAISE;
    END IF;
    pgevict_failure := SQLERRM;
    pgevict_journal := NULL;
    pgevict_look := true;
    BEGIN
      -- A statement without rows evicts nothing, however broken the capture is. (One query an operation: the others'
      -- transition tables do not exist.)
      IF TG_OP = 'INSERT' THEN
        PERFORM FROM pgevict_new LIMIT 1;
      ELSIF TG_OP <> 'TRUNCATE' THEN
        PERFORM FROM pgevict_old LIMIT 1;
      END IF;
      IF NOT FOUND AND TG_OP <> 'TRUNCATE' THEN
        pgevict_look := NULL;
      -- A lock is waited for once more, not once a class.
      ELSIF TG_OP = 'TRUNCATE' OR SQLSTATE = '55P03' THEN
        INSERT INTO pgevict.journal (layout, tbl, kind, op, note)
        VALUES (3459564420998603401, 'pgevict.probe', 'x', pgevict_op, left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_journal;
      ELSE
        pgevict_classes := CASE TG_OP WHEN 'UPDATE' THEN ARRAY[$query$WITH r AS (
  SELECT "nonce" AS c0 FROM pgevict_old
  UNION ALL SELECT "nonce" AS c0 FROM pgevict_new
), k0 AS (
  SELECT DISTINCT true AS i, r.c0::text COLLATE "C" AS iv0
  FROM r
)
SELECT ARRAY['0'::text, k.iv0] AS tuple FROM k0 AS k$query$]::text[] END;
        FOR i IN 1 .. coalesce(array_length(pgevict_classes, 1), 0) LOOP
          CONTINUE WHEN pgevict_classes[i] IS NULL;
          BEGIN
            EXECUTE replace(pgevict_cut, 'pgevict_tuples', pgevict_classes[i]) INTO pgevict_written USING pgevict_op;
          EXCEPTION WHEN OTHERS THEN
            pgevict_failure := SQLERRM;
            INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, note)
            VALUES (3459564420998603401, 'pgevict.probe', 'x', pgevict_op, ARRAY[i - 1], left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_written;
          END;
          pgevict_journal := coalesce(pgevict_written, pgevict_journal);
        END LOOP;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      pgevict_failure := SQLERRM;
      BEGIN
        PERFORM nextval('"pgevict".lost'::pg_catalog.regclass);
      EXCEPTION WHEN OTHERS THEN
        -- A missing counter is itself what the daemon notices.
        NULL;
      END;
      RAISE WARNING USING MESSAGE = 'pgevict: a change of ' || 'pgevict.probe' || ' was not captured, its caches will be flushed: ' || pgevict_failure;
    END;
  END;
  -- hot
    BEGIN
      PERFORM pg_catalog.set_config('lock_timeout', pgevict_kept[2], true), pg_catalog.set_config('timezone', pgevict_kept[3], true),
        pg_catalog.set_config('datestyle', pgevict_kept[4], true), pg_catalog.set_config('intervalstyle', pgevict_kept[5], true),
        pg_catalog.set_config('bytea_output', pgevict_kept[6], true), pg_catalog.set_config('extra_float_digits', pgevict_kept[7], true),
        pg_catalog.set_config('lc_monetary', pgevict_kept[8], true), pg_catalog.set_config('quote_all_identifiers', pgevict_kept[9], true),
        pg_catalog.set_config('jit', pgevict_kept[10], true), pg_catalog.set_config('row_security', pgevict_kept[11], true),
        pg_catalog.set_config('search_path', pgevict_kept[1], true);
    EXCEPTION WHEN OTHERS THEN
      -- They end with the transaction.
      NULL;
    END;
  END IF;
  -- end hot
  -- bell
  -- After the protected block, so that an error of layer 1 does not take the ring with it. A ring that fails is made
  -- good by the daemon's slow poll. A prepared transaction may not notify, and a queue that fills would one day fail commits.
  IF pgevict_journal IS NOT NULL AND pgevict_ring IS NOT FALSE THEN
    BEGIN
      IF pgevict_ring OR NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885431413, pgevict_journal::pg_catalog.int4) THEN
        IF pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1 THEN
          PERFORM pg_catalog.pg_notify('pgevict', '');
        END IF;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  -- end bell
  -- Nobody may be reading (relief.sql). What fails here is tried again by another writer.
  IF pgevict_look THEN
    BEGIN
      PERFORM pgevict.relieve();
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  RETURN NULL;
END
$pgevict$$definition$]::text[];
  hashes constant text[] := ARRAY['2090f74dddb3ec5c5691db6def7544d38e4a1859651afb42afc88898e755efcd']::text[];
  marks constant text[] := ARRAY['pgevict capture 1 layout=3459564420998603401 table=pgevict.probe source=2090f74dddb3ec5c']::text[];
  settings constant text[] := ARRAY['']::text[];
  -- Triggers: letter, level (s statement, r row), function, and how it is enabled (O origin, A always, R replica).
  letters constant text[] := ARRAY['u']::text[];
  levels constant text[] := ARRAY['s']::text[];
  callees constant text[] := ARRAY['capture_probe_058f2f90']::text[];
  enabled constant text[] := ARRAY['O']::text[];
  root constant oid := pg_catalog.to_regclass(target);
  waited constant text := pg_catalog.current_setting('lock_timeout');
  missing text;
  callee oid;
  relation record;
  trigger_name text;
  present record;
  tree oid[];
  hyper boolean := false;
  event text;
BEGIN
  IF root IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = 'pgevict: the watched table ' || target || ' does not exist',
      HINT = 'Create it first, or correct its name in the configuration.';
  END IF;
  IF (SELECT relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class WHERE oid = root) THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is not a table',
      HINT = 'Changes of views and foreign tables fire no triggers: watch the tables behind it.';
  END IF;
  SELECT pg_catalog.string_agg(pg_catalog.quote_ident(c), ', ') INTO missing FROM pg_catalog.unnest(needed) AS c
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = root AND attname = c AND attnum > 0 AND NOT attisdropped);
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = 'pgevict: ' || target || ' has no column ' || missing,
      HINT = 'Correct the configuration, then make this migration again.';
  END IF;
  WITH RECURSIVE below (oid) AS (
    SELECT root UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN below ON i.inhparent = below.oid
  ) SELECT pg_catalog.array_agg(below.oid) INTO tree FROM below;
  IF pg_catalog.to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL THEN
    EXECUTE 'SELECT EXISTS (SELECT FROM _timescaledb_catalog.hypertable AS h JOIN pg_catalog.pg_namespace AS n ON n.nspname = h.schema_name'
      || ' JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name WHERE c.oid = $1)' INTO hyper USING root;
  END IF;
  IF hyper AND EXISTS (SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i WHERE levels[i] = 's' AND letters[i] <> 't') THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' is a hypertable, and this migration was made for an ordinary table',
      HINT = 'Make it again where pgevict sql up can reach the database, or write capture = "row" in the section of the table.';
  END IF;
  SELECT c.relname INTO present FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (tree) AND c.relkind = 'f' LIMIT 1;
  IF FOUND AND NOT hyper THEN
    -- The executor refuses to collect transition rows from a foreign table: every write that reaches it would fail.
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = 'pgevict: ' || target || ' has the foreign table ' || pg_catalog.quote_ident(present.relname) || ' below it',
      HINT = 'Watch its other partitions one by one instead.';
  END IF;

  PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
  IF NOT EXISTS (SELECT FROM pgevict.layout WHERE id = layout_id) THEN
    INSERT INTO pgevict.layout (id, tbl, spec) VALUES (layout_id, layout_tbl, layout_spec);
  END IF;
  FOR i IN 1 .. pg_catalog.array_length(functions, 1) LOOP
    IF NOT EXISTS (
      SELECT FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = functions[i] AND p.pronargs = 0 AND p.prosecdef
        AND coalesce(pg_catalog.array_to_string(p.proconfig, E'\n'), '') = settings[i]
        AND pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex') = hashes[i]
        AND pg_catalog.obj_description(p.oid, 'pg_proc') = marks[i]
    ) THEN
      EXECUTE definitions[i];
      EXECUTE 'REVOKE ALL ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() FROM PUBLIC';
      EXECUTE 'COMMENT ON FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(functions[i]) || '() IS '
        || pg_catalog.quote_literal(marks[i]);
    END IF;
  END LOOP;

  FOR relation IN
    SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name, c.relkind
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (tree) ORDER BY c.oid = root DESC, 2
  LOOP
    FOR i IN 1 .. pg_catalog.array_length(letters, 1) LOOP
      -- Row triggers of a partitioned table are cloned to its partitions: the partitions have their own.
      CONTINUE WHEN levels[i] = 'r' AND relation.relkind = 'p';
      -- A chunk has the hypertable's row triggers, under their names; a tiered one is a foreign table, which is only read.
      CONTINUE WHEN hyper AND relation.oid <> root AND (levels[i] <> 'r' OR relation.relkind <> 'r');
      trigger_name := 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
        || CASE WHEN relation.oid = root OR hyper THEN '' ELSE '_' || suffix END;
      SELECT p.oid INTO callee FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = ns AND p.proname = callees[i] AND p.pronargs = 0;
      SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t
      WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name AND t.tgfoid = callee AND t.tgattr::text = '' AND t.tgqual IS NULL
        -- Bits of tgtype: 1 row, 4 insert, 8 delete, 16 update, 32 truncate.
        AND t.tgtype = CASE letters[i] WHEN 'i' THEN 4 WHEN 'd' THEN 8 WHEN 'u' THEN 16 ELSE 32 END + CASE levels[i] WHEN 'r' THEN 1 ELSE 0 END
        AND t.tgoldtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN 'pgevict_old' END
        AND t.tgnewtable IS NOT DISTINCT FROM CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN 'pgevict_new' END;
      IF NOT FOUND THEN
        event := CASE letters[i] WHEN 'i' THEN 'INSERT' WHEN 'u' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'TRUNCATE' END;
        IF hyper AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name) THEN
          -- Timescale does not replace the clones.
          EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(trigger_name) || ' ON ' || relation.name;
        END IF;
        EXECUTE CASE WHEN hyper THEN 'CREATE TRIGGER ' ELSE 'CREATE OR REPLACE TRIGGER ' END || pg_catalog.quote_ident(trigger_name) || ' AFTER ' || event || ' ON ' || relation.name
          || CASE WHEN levels[i] = 's' AND letters[i] <> 't' THEN ' REFERENCING' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('u', 'd') THEN ' OLD TABLE AS pgevict_old' ELSE '' END
          || CASE WHEN levels[i] = 's' AND letters[i] IN ('i', 'u') THEN ' NEW TABLE AS pgevict_new' ELSE '' END
          || CASE levels[i] WHEN 'r' THEN ' FOR EACH ROW' ELSE ' FOR EACH STATEMENT' END
          || ' EXECUTE FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(callees[i]) || '()';
        SELECT t.tgenabled INTO present FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = relation.oid AND t.tgname = trigger_name;
      END IF;
      IF present.tgenabled::text <> enabled[i] THEN
        EXECUTE CASE WHEN hyper THEN 'ALTER TABLE ' ELSE 'ALTER TABLE ONLY ' END || relation.name
          || CASE enabled[i] WHEN 'A' THEN ' ENABLE ALWAYS TRIGGER ' WHEN 'R' THEN ' ENABLE REPLICA TRIGGER ' ELSE ' ENABLE TRIGGER ' END
          || pg_catalog.quote_ident(trigger_name);
      END IF;
    END LOOP;
  END LOOP;

  -- Triggers of ours that are not wanted any more: detached partitions, operations that no edge counts, renamed tables.
  FOR relation IN
    SELECT t.oid, t.tgname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE pn.nspname = ns AND p.proname IN ('capture_probe_058f2f90', 'capture_row_probe_058f2f90') AND NOT (
      t.tgrelid = ANY (tree)
      AND EXISTS (
        SELECT FROM pg_catalog.generate_subscripts(letters, 1) AS i
        WHERE t.tgname = 'zz_pgevict_' || CASE levels[i] WHEN 'r' THEN 'row_' ELSE '' END || letters[i]
          || CASE WHEN t.tgrelid = root OR hyper AND levels[i] = 'r' THEN '' ELSE '_' || suffix END
          AND p.proname = callees[i]
      )
    )
  LOOP
    -- The clones on chunks go with the trigger of their hypertable.
    CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.oid = relation.oid);
    EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(relation.tgname) || ' ON ' || relation.name;
  END LOOP;
  FOR relation IN
    SELECT p.proname FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = ns AND p.proname IN ('capture_probe_058f2f90', 'capture_row_probe_058f2f90') AND p.proname <> ALL (functions)
  LOOP
    EXECUTE 'DROP FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(relation.proname) || '()';
  END LOOP;
  PERFORM pg_catalog.set_config('lock_timeout', waited, true);
END
$pgevict_table$;

-- remove captures of tables that are not configured
DO $pgevict$
DECLARE
  ns constant text := 'pgevict';
  wanted constant text[] := ARRAY['capture_calls_b205cea3', 'capture_lead_analytics_58f0cf86', 'capture_agents_44e13915', 'capture_users_55cc0495', 'capture_agent_analytics_472572d3', 'capture_probe_058f2f90']::text[];
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

-- rights of role pgevict
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
