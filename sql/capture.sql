-- The capture function of one watched table, journal delivery, statement level.
--
-- This file runs as it stands, and what it makes does nothing good: names in double underscores are filled in by
-- src/rules/capture. One function serves the four triggers of a table and of every relation below it; PL/pgSQL plans
-- a query when it is first reached, so the branch of an operation never sees the other one's transition tables.
--
-- No error may reach the application (on_error = "open"), so there are four layers, each in its own handler:
--   1  the rows' distinct tuples
--   2  class by class; a class that fails is written as kind x: evict it whole
--   3  the sequence `lost`, which is not transactional, and a warning
--   4  even that is missing: the warning alone
-- Not caught, because PostgreSQL does not let it be: a cancelled statement. Nothing of it commits, nothing is lost.
-- Not bounded on the short way: a lock on the journal's sequence alone, which only an ALTER SEQUENCE by hand takes. LOCK TABLE knows no
-- sequences; whatever alters the journal itself locks the table first, which is noticed without waiting.
CREATE OR REPLACE FUNCTION pgevict.__function__() RETURNS trigger
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
  SELECT __layout__, __table__, 'w', $1, array_agg(class ORDER BY class) FROM too_much HAVING count(*) > 0
  RETURNING tableoid
), pieces AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples)
  SELECT __layout__, __table__, 'r', $1, array_agg(tuple) FROM (
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
      SELECT (TABLE __update_hot__) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
      pgevict_op := 'i';
      SELECT (TABLE __insert_hot__) INTO pgevict_array;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
      pgevict_op := 'd';
      SELECT (TABLE __delete_hot__) INTO pgevict_array;
    END IF;
    IF pgevict_array IS NULL AND pgevict_op IS NOT NULL THEN
      RETURN NULL;
    END IF;
    IF pgevict_array OPERATOR(pg_catalog.<>) '{}' AND pg_catalog.pg_column_size(pgevict_array) OPERATOR(pg_catalog.<=) 65536 THEN
      -- What follows waits for a lock, but not for long.
      LOCK TABLE pgevict.journal IN ROW EXCLUSIVE MODE NOWAIT;
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (__layout__, __table__, 'r', pgevict_op, pgevict_array);
      -- Asked of the sequence: RETURNING costs ten times as much.
      pgevict_look := pg_catalog.mod(pg_catalog.currval(__numbers__), 251) OPERATOR(pg_catalog.=) 0;
      -- bell
      pgevict_ring := NOT pg_catalog.pg_try_advisory_xact_lock_shared(__lock_class__, __journal__::pg_catalog.oid::pg_catalog.int4);
      -- end bell
      IF NOT (pgevict_look OR pgevict_ring IS TRUE) THEN
        RETURN NULL;
      END IF;
      pgevict_journal := __journal__;
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
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (TABLE __insert_one__) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_new LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (TABLE __insert__) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'UPDATE' THEN
      pgevict_op := 'u';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (TABLE __update_one__) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (TABLE __update__) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSIF TG_OP = 'DELETE' THEN
      pgevict_op := 'd';
      SELECT true, q.tuples INTO pgevict_one, pgevict_array FROM (TABLE __delete_one__) AS q;
      IF pgevict_one IS NULL OR pg_column_size(pgevict_array) > 65536 THEN
        SELECT count(*), NULL INTO pgevict_count, pgevict_array FROM (SELECT FROM pgevict_old LIMIT 1001) AS q;
        IF pgevict_count BETWEEN 1 AND 1000 THEN
          SELECT count(*), sum(t.size), array_agg(t.tuple) FILTER (WHERE t.size <= 65536) INTO pgevict_count, pgevict_bytes, pgevict_array
          FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (TABLE __delete__) AS q LIMIT 257) AS t;
        END IF;
      END IF;
    ELSE
      pgevict_op := 't';
      INSERT INTO pgevict.journal (layout, tbl, kind, op) VALUES (__layout__, __table__, 'w', pgevict_op)
      RETURNING tableoid INTO pgevict_journal;
    END IF;
    IF pgevict_count > 256 OR pgevict_bytes > 65536 THEN
      EXECUTE replace(replace(pgevict_cut, 'pgevict_tuples', __everything__), __uneven__,
        CASE WHEN (SELECT relkind FROM pg_class WHERE oid = TG_RELID) = 'r' THEN 'false' ELSE __uneven__ END) INTO pgevict_journal USING pgevict_op;
      pgevict_look := true;
    ELSIF pgevict_array IS NOT NULL THEN
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (__layout__, __table__, 'r', pgevict_op, pgevict_array)
      -- A prime, so that no habit of the application keeps step with it.
      RETURNING mod(seq, 251) = 0 INTO pgevict_look;
      pgevict_journal := __journal__;
    END IF;
    -- bell
    -- The last thing in this block, so that no error takes it back without the row: a second subtransaction would cost
    -- as much as it. The daemon holds this lock only while it sleeps. The key is the journal's oid (bit for bit: a cast
    -- of oid to integer wraps).
    IF pgevict_journal IS NOT NULL THEN
      pgevict_ring := NOT pg_try_advisory_xact_lock_shared(__lock_class__, pgevict_journal::integer);
    END IF;
    -- end bell
  EXCEPTION WHEN OTHERS THEN
    IF __closed__ THEN
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
        VALUES (__layout__, __table__, 'x', pgevict_op, left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_journal;
      ELSE
        pgevict_classes := __by_class__;
        FOR i IN 1 .. coalesce(array_length(pgevict_classes, 1), 0) LOOP
          CONTINUE WHEN pgevict_classes[i] IS NULL;
          BEGIN
            EXECUTE replace(pgevict_cut, 'pgevict_tuples', pgevict_classes[i]) INTO pgevict_written USING pgevict_op;
          EXCEPTION WHEN OTHERS THEN
            pgevict_failure := SQLERRM;
            INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, note)
            VALUES (__layout__, __table__, 'x', pgevict_op, ARRAY[i - 1], left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_written;
          END;
          pgevict_journal := coalesce(pgevict_written, pgevict_journal);
        END LOOP;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      pgevict_failure := SQLERRM;
      BEGIN
        PERFORM nextval(__lost__);
      EXCEPTION WHEN OTHERS THEN
        -- A missing counter is itself what the daemon notices.
        NULL;
      END;
      RAISE WARNING USING MESSAGE = 'pgevict: a change of ' || __table__ || ' was not captured, its caches will be flushed: ' || pgevict_failure;
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
      IF pgevict_ring OR NOT pg_catalog.pg_try_advisory_xact_lock_shared(__lock_class__, pgevict_journal::pg_catalog.int4) THEN
        IF pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1 THEN
          PERFORM pg_catalog.pg_notify(__channel__, '');
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
$pgevict$;
