-- What a ring was for: the first rows behind transaction $1. Where a snapshot's list of running transactions is empty, and $1 is its xmax, the
-- difference to now is one range of the index, and most often one row. An idle application waits for that row, and a statement that has
-- not been run for a while takes as long as its plan is large: so this is one index scan without a join or a sub-select, and asks for no more than
-- what must not be parted, the snapshot and the rows, undigested. Without a row there is no answer. floor.sql and the poll that follows at once
-- ask for the rest.
-- At most four rows. What is more than 64 kB, as it is stored, comes as NULL: past either, page.sql reads them all again.
SELECT pg_current_snapshot(), xid, seq, at, clock_timestamp(), layout, left(tbl, 300), kind, op,
       CASE WHEN pg_column_size(classes) <= 65536 THEN classes END, CASE WHEN pg_column_size(tuples) <= 65536 THEN tuples END, left(note, 1000),
       classes IS NOT NULL, tuples IS NOT NULL
FROM pgevict.journal WHERE xid >= $1 AND pg_visible_in_snapshot(xid, pg_current_snapshot())
ORDER BY xid, seq LIMIT 4
