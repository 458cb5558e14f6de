-- The capture function of one watched table, journal delivery, row level: for the apply of logical replication, which
-- fires row triggers only, and for hypertables, whose chunks take no others. See capture.sql for the layers; this file too
-- runs as it stands.
--
-- What a transaction has written once it does not write again: a bulk load of few devices writes few journal rows. Each
-- written row costs a subtransaction, so a transaction may have 1000 of them; then one whole-table row stands for the rest.
CREATE OR REPLACE FUNCTION pgevict.__function__() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
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
AS $pgevict$
#variable_conflict use_column
-- The queries are static: a column that is dropped must not be found among the variables.
DECLARE
  pgevict_op constant "char" := lower(left(TG_OP, 1));
  pgevict_before integer := 0;
  pgevict_bytes bigint := 0;
  pgevict_array text[];
  pgevict_hash text;
  pgevict_classes text[];
  pgevict_journal oid;
  pgevict_written oid;
  -- Whether to look how large the journal is.
  pgevict_look boolean;
  pgevict_failure text;
  -- Rows of at most 1000 tuples and about 64 kB; a class past 50000 tuples or with a value over 1 MiB goes whole.
  pgevict_cut constant text := $sql$
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
  SELECT __layout__, __table__, 'w', $3, array_agg(class ORDER BY class) FROM too_much HAVING count(*) > 0
  RETURNING tableoid
), pieces AS (
  INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples)
  SELECT __layout__, __table__, 'r', $3, array_agg(tuple) FROM (
    SELECT tuple, (row_number() OVER running - 1) / 1000 AS by_count, sum(size) OVER running / 65536 AS by_size
    FROM sized WHERE class NOT IN (SELECT class FROM too_much)
    WINDOW running AS (ROWS UNBOUNDED PRECEDING)
  ) AS piece GROUP BY by_count, by_size
  RETURNING tableoid
)
SELECT tableoid FROM whole UNION ALL SELECT tableoid FROM pieces LIMIT 1
$sql$;
BEGIN
  -- Transaction-local: rolled back with the savepoint that the journal rows are rolled back with.
  IF current_setting(__counter__, true) ~ '^[0-9]{1,5}$' THEN
    pgevict_before := current_setting(__counter__, true)::integer;
  END IF;
  IF pgevict_before > 1000 THEN
    RETURN NULL;
  END IF;
  BEGIN
    IF __dynamic__ THEN
      EXECUTE 'SELECT sum(t.size), array_agg(t.tuple) FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '''')) AS size FROM ('
        || __everything__ || ') AS q) AS t' INTO pgevict_bytes, pgevict_array USING OLD, NEW, pgevict_op;
    ELSIF TG_OP = 'INSERT' THEN
      SELECT sum(t.size), array_agg(t.tuple) INTO pgevict_bytes, pgevict_array
      FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (TABLE __insert__) AS q) AS t;
    ELSIF TG_OP = 'UPDATE' THEN
      SELECT sum(t.size), array_agg(t.tuple) INTO pgevict_bytes, pgevict_array
      FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (TABLE __update__) AS q) AS t;
    ELSE
      SELECT sum(t.size), array_agg(t.tuple) INTO pgevict_bytes, pgevict_array
      FROM (SELECT q.tuple, octet_length(array_to_string(q.tuple, '')) AS size FROM (TABLE __delete__) AS q) AS t;
    END IF;
    IF pgevict_array IS NULL THEN
      RETURN NULL;
    END IF;
    -- 128 bits of SHA-256: nobody finds two rows of which one would hide the other.
    pgevict_hash := left(encode(sha256(convert_to(pgevict_op::text || pgevict_array::text, 'UTF8')), 'hex'), 32);
    IF position(pgevict_hash IN coalesce(current_setting(__seen__, true), '')) > 0 THEN
      RETURN NULL;
    END IF;
    PERFORM set_config(__counter__, (pgevict_before + 1)::text, true);
    IF pgevict_before = 1000 THEN
      INSERT INTO pgevict.journal (layout, tbl, kind, op, classes) VALUES (__layout__, __table__, 'w', pgevict_op, __all_classes__)
      RETURNING tableoid INTO pgevict_journal;
    ELSIF pgevict_bytes > 65536 THEN
      EXECUTE replace(pgevict_cut, 'pgevict_tuples', __everything__) INTO pgevict_journal USING OLD, NEW, pgevict_op;
      pgevict_look := true;
    ELSE
      INSERT INTO pgevict.journal (layout, tbl, kind, op, tuples) VALUES (__layout__, __table__, 'r', pgevict_op, pgevict_array)
      -- A prime, so that no habit of the application keeps step with it.
      RETURNING tableoid, mod(seq, 251) = 0 INTO pgevict_journal, pgevict_look;
    END IF;
    PERFORM set_config(__seen__, coalesce(current_setting(__seen__, true), '') || ' ' || pgevict_hash, true);
  EXCEPTION WHEN OTHERS THEN
    IF __closed__ THEN
      RAISE;
    END IF;
    pgevict_failure := SQLERRM;
    pgevict_journal := NULL;
    pgevict_look := true;
    -- The protected block took its count back with it.
    PERFORM set_config(__counter__, (pgevict_before + 1)::text, true);
    BEGIN
      -- A lock is waited for once more, not once a class.
      IF pgevict_before = 1000 OR SQLSTATE = '55P03' THEN
        INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, note)
        VALUES (__layout__, __table__, 'x', pgevict_op, __all_classes__, left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_journal;
      ELSE
        pgevict_classes := __by_class__;
        FOR i IN 1 .. coalesce(array_length(pgevict_classes, 1), 0) LOOP
          -- A class that goes whole in this transaction need not be named again.
          CONTINUE WHEN pgevict_classes[i] IS NULL
            OR position(' ' || pgevict_op::text || i || ' ' IN coalesce(current_setting(__seen__, true), '') || ' ') > 0;
          BEGIN
            EXECUTE replace(pgevict_cut, 'pgevict_tuples', pgevict_classes[i]) INTO pgevict_written USING OLD, NEW, pgevict_op;
          EXCEPTION WHEN OTHERS THEN
            pgevict_failure := SQLERRM;
            INSERT INTO pgevict.journal (layout, tbl, kind, op, classes, note)
            VALUES (__layout__, __table__, 'x', pgevict_op, ARRAY[i - 1], left(pgevict_failure, 200)) RETURNING tableoid INTO pgevict_written;
            PERFORM set_config(__seen__, coalesce(current_setting(__seen__, true), '') || ' ' || pgevict_op::text || i, true);
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
  -- bell
  -- After the protected block, so that an error of layer 1 does not take the ring with it. The daemon holds this lock
  -- only while it sleeps. The key is the journal's oid (bit for bit: a cast of oid to integer wraps). A ring that
  -- fails is made good by the daemon's slow poll. A prepared transaction may not notify, and a queue that fills would
  -- one day fail commits.
  IF pgevict_journal IS NOT NULL THEN
    BEGIN
      IF NOT pg_try_advisory_xact_lock_shared(__lock_class__, pgevict_journal::integer) THEN
        IF current_setting('max_prepared_transactions')::integer = 0 AND pg_notification_queue_usage() < 0.1 THEN
          PERFORM pg_notify(__channel__, '');
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
