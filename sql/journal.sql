-- The journal and what the position needs. Runs as it stands, any number of times, after schema.sql.

-- Append only; rows leave in batches, the oldest first. `xid` is the top-level transaction's, also within savepoints
-- and for prepared transactions; `seq` orders rows inside one xid and pages; `at` is for metrics. Neither of the last
-- two is ever a position. The primary key is also the replica identity that a DELETE needs under a publication.
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
