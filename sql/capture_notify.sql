-- The capture function of one watched table, notify delivery: the payload in NOTIFY, no table. Statement level, and
-- row level where row triggers are needed. See capture.sql for the layers; this file too runs as it stands.
--
-- The format of a payload stands in src/ARCHITECTURE.md, its numbers in src/rules/capture/function.rs.
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
DECLARE
  letter constant "char" := lower(left(TG_OP, 1));
  -- row level
  before integer := 0;
  -- end row level
  query text;
  by_class text[];
  kind text := 'r';
  classes integer[];
  tuples text[];
  matched bigint;
  size bigint;
  some integer[];
  one text[];
  failure text;
  note text;
  payload text;
  id text;
  instant constant text := replace(replace(clock_timestamp()::text, ' ', 'T'), '+00', 'Z');
  step integer;
  total integer;
BEGIN
  -- row level
  -- Transaction-local, and counted outside the protected block: an error there would roll the count back.
  IF current_setting(__counter__, true) ~ '^[0-9]{1,5}$' THEN
    before := current_setting(__counter__, true)::integer;
  END IF;
  IF before > 1000 THEN
    RETURN NULL;
  END IF;
  PERFORM set_config(__counter__, (before + 1)::text, true);
  -- end row level
  BEGIN
    -- A queue that is full fails the commit of everybody who notifies: rather lose the payload, and count it.
    IF pg_notification_queue_usage() > 0.9 THEN
      RAISE EXCEPTION USING MESSAGE = 'the notification queue is full';
    END IF;
    BEGIN
      query := __everything__;
      IF before = 1000 THEN
        kind := 'w';
        classes := __all_classes__;
      ELSIF TG_OP = 'TRUNCATE' THEN
        kind := 'w';
      ELSE
        EXECUTE 'SELECT count(*), sum(octet_length(array_to_string(t.tuple, ''''))), array_agg(t.tuple) FROM (SELECT q.tuple FROM ('
          || query || ') AS q LIMIT 8193) AS t' INTO matched, size, tuples USING __arguments__;
        IF matched = 0 THEN
          RETURN NULL;
        END IF;
        IF matched > 8192 OR size > 65536 THEN
          kind := 'w';
          tuples := NULL;
          EXECUTE 'SELECT array_agg(DISTINCT CASE WHEN q.tuple[1]::integer < 0 THEN -q.tuple[1]::integer - 1 ELSE q.tuple[1]::integer END) FROM ('
            || query || ') AS q' INTO classes USING __arguments__;
        END IF;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      IF __closed__ THEN
        RAISE;
      END IF;
      kind := 'x';
      classes := ARRAY[]::integer[];
      tuples := NULL;
      note := left(SQLERRM, 200);
      -- statement level
      IF TG_OP = 'INSERT' THEN
        PERFORM FROM pgevict_new LIMIT 1;
      ELSE
        PERFORM FROM pgevict_old LIMIT 1;
      END IF;
      IF NOT FOUND THEN
        RETURN NULL;
      END IF;
      -- end statement level
      by_class := __by_class__;
      FOR i IN 1 .. coalesce(array_length(by_class, 1), 0) LOOP
        CONTINUE WHEN by_class[i] IS NULL;
        BEGIN
          EXECUTE 'SELECT array_agg(t.tuple), sum(octet_length(array_to_string(t.tuple, ''''))) FROM (SELECT q.tuple FROM ('
            || by_class[i] || ') AS q LIMIT 8193) AS t' INTO one, size USING __arguments__;
          IF size > 65536 OR array_length(one, 1) > 8192 THEN
            classes := classes || (i - 1);
          ELSIF one IS NOT NULL THEN
            tuples := tuples || one;
          END IF;
        EXCEPTION WHEN OTHERS THEN
          classes := classes || (i - 1);
          note := left(SQLERRM, 200);
        END;
      END LOOP;
    END;
    IF tuples IS NOT NULL AND octet_length(array_to_json(tuples)::text) > 65536 THEN
      classes := coalesce(classes, ARRAY[]::integer[]) || ARRAY(
        SELECT DISTINCT CASE WHEN tuples[i][1]::integer < 0 THEN -tuples[i][1]::integer - 1 ELSE tuples[i][1]::integer END
        FROM generate_series(1, array_length(tuples, 1)) AS i
      );
      kind := CASE kind WHEN 'r' THEN 'w' ELSE kind END;
      tuples := NULL;
    END IF;
    -- Tuples and whole classes are two messages: what degraded beside what did not.
    FOR part IN 1 .. 2 LOOP
      CONTINUE WHEN part = 1 AND tuples IS NULL OR part = 2 AND (kind = 'r' OR classes = ARRAY[]::integer[]);
      payload := json_build_object('at', instant, 'classes', CASE part WHEN 2 THEN classes END,
        'tuples', CASE part WHEN 1 THEN array_to_json(tuples) END, 'note', CASE part WHEN 2 THEN note END);
      id := replace(gen_random_uuid()::text, '-', '');
      -- A payload has less than 8000 bytes, of which the head takes up to 120; a character up to 4.
      step := CASE WHEN octet_length(payload) = length(payload) THEN 7800 ELSE 1950 END;
      total := (length(payload) + step - 1) / step;
      FOR i IN 1 .. total LOOP
        PERFORM pg_notify(__channel__, '1 ' || __layout__ || ' ' || letter::text || ' ' || CASE part WHEN 1 THEN 'r' ELSE kind END
          || ' ' || id || ' ' || i || ' ' || total || ' ' || substr(payload, (i - 1) * step + 1, step));
      END LOOP;
    END LOOP;
  EXCEPTION WHEN OTHERS THEN
    IF __closed__ THEN
      RAISE;
    END IF;
    failure := SQLERRM;
    BEGIN
      PERFORM nextval(__lost__);
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
    RAISE WARNING USING MESSAGE = 'pgevict: a change of ' || __table__ || ' was not captured, its caches will be flushed: ' || failure;
  END;
  RETURN NULL;
END
$pgevict$;
