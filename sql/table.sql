-- Installs or mends the capture of one watched table: its layout, its functions, and triggers on the table and on every
-- relation below it in pg_inherits (partitions at any depth, inheritance children). Below a Timescale hypertable are chunks:
-- they refuse statement triggers with transition tables, and Timescale clones row triggers to them. One statement, so one transaction where the
-- migration tool opens none. It compares first: where everything is as it should be, nothing is locked or written.
-- Names in double underscores are filled in by src/rules/capture.
DO $pgevict_table$
DECLARE
  ns constant text := 'pgevict';
  target constant text := '__target__';
  suffix constant text := '__suffix__';
  layout_id constant bigint := __layout__;
  layout_tbl constant text := __table__;
  layout_spec constant text := __spec__;
  needed constant text[] := __columns__;
  -- Functions, and per function: what makes it, the SHA-256 of its source, the mark that `sql diff` compares, and what it pins, one a line.
  functions constant text[] := __functions__;
  definitions constant text[] := __definitions__;
  hashes constant text[] := __hashes__;
  marks constant text[] := __marks__;
  settings constant text[] := __settings__;
  -- Triggers: letter, level (s statement, r row), function, and how it is enabled (O origin, A always, R replica).
  letters constant text[] := __letters__;
  levels constant text[] := __levels__;
  callees constant text[] := __callees__;
  enabled constant text[] := __enabled__;
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
    WHERE pn.nspname = ns AND p.proname IN (__ours__) AND NOT (
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
    WHERE n.nspname = ns AND p.proname IN (__ours__) AND p.proname <> ALL (functions)
  LOOP
    EXECUTE 'DROP FUNCTION ' || pg_catalog.quote_ident(ns) || '.' || pg_catalog.quote_ident(relation.proname) || '()';
  END LOOP;
  PERFORM pg_catalog.set_config('lock_timeout', waited, true);
END
$pgevict_table$;
