-- What housekeeping needs to know, in one statement: $1 and $2 are `retention` and `retention_max` in seconds. Reading how full
-- the NOTIFY queue is also advances its tail: a queue that an idle listener filled stays full until somebody does.
WITH past AS MATERIALIZED (
  SELECT kept.n, kept.snap AS kept, most.snap AS most, newest.snap AS newest
  FROM (SELECT) AS one
  LEFT JOIN LATERAL (
    SELECT n, snap FROM pgevict.beacon WHERE at < clock_timestamp() - make_interval(secs => $1) AND snap IS NOT NULL ORDER BY n DESC LIMIT 1
  ) AS kept ON true
  LEFT JOIN LATERAL (
    SELECT snap FROM pgevict.beacon WHERE at < clock_timestamp() - make_interval(secs => $2) AND snap IS NOT NULL ORDER BY n DESC LIMIT 1
  ) AS most ON true
  LEFT JOIN LATERAL (SELECT snap FROM pgevict.beacon WHERE snap IS NOT NULL ORDER BY n DESC LIMIT 1) AS newest ON true
)
SELECT pg_notification_queue_usage(),
  ARRAY(SELECT id FROM pgevict.layout),
  pg_stat_get_live_tuples('pgevict.journal'::regclass),
  -- The file never shrinks (no truncation by vacuum), so what is in it is estimated: rows by the newest hundred's size, 140 bytes
  -- each for what is not in `tuples`, index included. Without statistics the file counts.
  CASE WHEN pg_stat_get_live_tuples('pgevict.journal'::regclass) = 0 THEN pg_total_relation_size('pgevict.journal'::regclass)
  ELSE least(pg_total_relation_size('pgevict.journal'::regclass), pg_stat_get_live_tuples('pgevict.journal'::regclass) * coalesce((
    SELECT 140 + avg(coalesce(pg_column_size(j.tuples), 0))
    FROM (SELECT tuples FROM pgevict.journal ORDER BY xid DESC, seq DESC LIMIT 100) AS j
  ), 0))::bigint END,
  -- Only where there is something to retire; beacons alone wait until they are a hundred.
  CASE WHEN past.n - (SELECT min(n) FROM pgevict.beacon) > 100 OR EXISTS (
    SELECT FROM pgevict.journal AS j WHERE j.xid < pg_snapshot_xmax(past.kept) AND pg_visible_in_snapshot(j.xid, past.kept)
  ) THEN past.kept::text END,
  CASE WHEN EXISTS (
    SELECT FROM pgevict.journal AS j WHERE j.xid < pg_snapshot_xmax(past.most) AND pg_visible_in_snapshot(j.xid, past.most)
  ) THEN past.most::text END,
  past.newest::text
FROM past
