-- relieve(): bounds the journal of a database without a daemon (a clone, a restore for tests, a daemon that was given up). Runs as
-- it stands, any number of times, after journal.sql. The triggers call it with one in 251 of the rows that they write.
--
-- It deletes the oldest rows though nobody has read them, and still nothing is lost:
--   1  it deletes only what the snapshot S sees that becomes the floor, in the same transaction: both are seen, or neither. S does not see
--      the writer's own transaction
--   2  whoever reads a page of the journal reads the floor in the same statement, or after it and before the page counts as read
--   3  a daemon goes on only where what it has read contains the floor; then it has read all that S sees. Otherwise it flushes
--      everything, and begins from a snapshot that contains the floor
--   4  a writer that rolls back takes both back
-- So each committed change has a row that is read, or is covered by a floor that flushes. Rows are written all the while: there is no
-- state "full" that somebody would have to end, and a daemon that comes is served row by row from its first snapshot on.
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
