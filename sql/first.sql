-- What a ring was for: the first rows behind transaction $1, in the columns of page.sql. Where a snapshot's list of running transactions is
-- empty, and $1 is its xmax, the difference to now is one range of the index, and most often one row. An idle application waits
-- for that row, and a statement that has not been run for a while takes as long as its plan is large: so this one asks for no more than what
-- must not be parted, the snapshot, the floor and the rows. The poll that follows at once asks for the rest.
-- At most $2 rows. One of more than 64 kB, as it is stored, comes without its values: past either, page.sql reads them all again.
SELECT pg_current_snapshot()::text, (SELECT snap::text FROM pgevict.floor), NULL::bigint,
       j.xid::text::bigint, j.seq, CASE WHEN isfinite(j.at) THEN date_part('epoch', clock_timestamp() - j.at) * 1000 ELSE 0 END,
       j.layout, left(j.tbl, 300), j.kind, j.op,
       CASE WHEN j.size <= 65536 THEN j.classes END, CASE WHEN j.size <= 65536 THEN j.tuples END, left(j.note, 1000),
       NULL::bigint, NULL::oid, CASE WHEN j.size > 65536 THEN j.size END::bigint
FROM (VALUES (true)) AS here LEFT JOIN (
  SELECT *, coalesce(pg_column_size(classes), 0) + coalesce(pg_column_size(tuples), 0) AS size
  FROM pgevict.journal WHERE xid >= $1::text::xid8 AND pg_visible_in_snapshot(xid, pg_current_snapshot())
  ORDER BY xid, seq LIMIT $2
) AS j ON true
