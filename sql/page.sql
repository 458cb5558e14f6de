-- One page of the batch visible($2) \ visible($1): $1 what was seen already, $2 the target or NULL for "now", behind row
-- ($3, $4), at most $5 rows or about $6 bytes of values as they are stored, compressed; each row says how many they are up to it. One statement reads the snapshot, the floor, the counter of lost captures and the rows, so that they belong
-- together: a row is in exactly one such difference, whatever the order of commits. Times are ages: no clock is compared.
-- One lower bound and not two: beside a second one, "xid >= xmax", the index would be walked from row ($3, $4) on, which
-- for a first page is its very beginning (seq begins at 1).
WITH h AS MATERIALIZED (
  SELECT coalesce($2::text::pg_snapshot, pg_current_snapshot()) AS target,
         (SELECT snap::text FROM pgevict.floor) AS floor,
         (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pgevict.lost) AS lost
)
SELECT h.target::text, h.floor, h.lost,
       j.xid::text::bigint, j.seq, CASE WHEN isfinite(j.at) THEN date_part('epoch', clock_timestamp() - j.at) * 1000 ELSE 0 END,
       j.layout, left(j.tbl, 300), j.kind, j.op,
       CASE WHEN j.excess IS NULL THEN j.classes END, CASE WHEN j.excess IS NULL THEN j.tuples END, left(j.note, 1000),
       j.upto, pg_relation_filenode('pgevict.journal'), j.excess
FROM h LEFT JOIN LATERAL (
  SELECT * FROM (
    SELECT limited.*, coalesce(pg_column_size(tuples), 0) AS size,
      -- What no trigger writes is not sent: a row has about 64 kB, or one tuple of values up to 1 MiB. Only what is
      -- large as it is stored is looked at.
      CASE WHEN pg_column_size(classes) > 65536 THEN pg_column_size(classes)
           WHEN pg_column_size(tuples) > 67108864 THEN pg_column_size(tuples)
           WHEN pg_column_size(tuples) > 65536 AND octet_length(array_to_string(tuples, '')) > 67108864
           THEN octet_length(array_to_string(tuples, '')) END::bigint AS excess,
      sum(coalesce(pg_column_size(tuples), 0)) OVER (ORDER BY xid, seq ROWS UNBOUNDED PRECEDING) AS upto
    FROM (SELECT * FROM (
    (SELECT * FROM pgevict.journal
     WHERE (xid, seq) > (
         greatest($3::text::xid8, pg_snapshot_xmax($1::text::pg_snapshot)),
         CASE WHEN $3::text::xid8 < pg_snapshot_xmax($1::text::pg_snapshot) THEN 0 ELSE $4::bigint END
       )
       AND pg_visible_in_snapshot(xid, h.target)
     ORDER BY xid, seq LIMIT $5)
    UNION ALL
    (SELECT * FROM pgevict.journal
     WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot))) AND (xid, seq) > ($3::text::xid8, $4::bigint)
       AND pg_visible_in_snapshot(xid, h.target)
     ORDER BY xid, seq LIMIT $5)
    ) both_arms ORDER BY xid, seq LIMIT $5) AS limited
  ) AS sized WHERE upto - size < $6 ORDER BY xid, seq
) j ON true
