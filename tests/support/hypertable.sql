-- A stand-in for the Timescale extension, as far as its DDL concerns pgevict: the catalog that names hypertables, chunks that
-- inherit, row triggers cloned to chunks and dropped with their original, rows that go to a chunk and never to the root,
-- and no transition tables. What the extension does was read in its source (src/process_utility.c, src/trigger.c).
CREATE SCHEMA _timescaledb_catalog;
CREATE SCHEMA _timescaledb_internal;
CREATE TABLE _timescaledb_catalog.hypertable (id serial PRIMARY KEY, schema_name name NOT NULL, table_name name NOT NULL);
GRANT USAGE ON SCHEMA _timescaledb_catalog TO PUBLIC;
GRANT SELECT ON _timescaledb_catalog.hypertable TO PUBLIC;

CREATE TABLE readings (day int NOT NULL, device text NOT NULL, value numeric);
INSERT INTO _timescaledb_catalog.hypertable (schema_name, table_name) VALUES ('public', 'readings');

CREATE FUNCTION stand_in_is_hypertable(relation oid) RETURNS boolean LANGUAGE sql SET search_path = public AS $$
  SELECT EXISTS (SELECT FROM _timescaledb_catalog.hypertable AS h WHERE to_regclass(format('%I.%I', h.schema_name, h.table_name)) = relation)
$$;

CREATE FUNCTION stand_in_chunk(day int) RETURNS void LANGUAGE plpgsql SET search_path = public AS $$
DECLARE t record;
BEGIN
  EXECUTE format('CREATE TABLE IF NOT EXISTS _timescaledb_internal._hyper_1_%s_chunk (CHECK (day = %s)) INHERITS (readings)', day, day);
  FOR t IN SELECT pg_get_triggerdef(oid) AS def FROM pg_trigger WHERE tgrelid = 'readings'::regclass AND tgtype & 3 = 1 AND NOT tgisinternal LOOP
    EXECUTE replace(t.def, ' ON public.readings ', format(' ON _timescaledb_internal._hyper_1_%s_chunk ', day));
  END LOOP;
END $$;

CREATE FUNCTION stand_in_route() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
  IF to_regclass(format('_timescaledb_internal._hyper_1_%s_chunk', NEW.day)) IS NULL THEN
    PERFORM stand_in_chunk(NEW.day);
  END IF;
  EXECUTE format('INSERT INTO _timescaledb_internal._hyper_1_%s_chunk VALUES ($1.*)', NEW.day) USING NEW;
  RETURN NULL;
END $$;
CREATE TRIGGER stand_in_route BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION stand_in_route();

CREATE FUNCTION stand_in_created() RETURNS event_trigger LANGUAGE plpgsql SET search_path = public AS $$
DECLARE made record; chunk regclass;
BEGIN
  FOR made IN SELECT t.* FROM pg_event_trigger_ddl_commands() AS c JOIN pg_trigger AS t ON t.oid = c.objid WHERE c.object_type = 'trigger' LOOP
    CONTINUE WHEN NOT stand_in_is_hypertable(made.tgrelid)
      AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = made.tgrelid AND stand_in_is_hypertable(inhparent));
    IF made.tgoldtable IS NOT NULL OR made.tgnewtable IS NOT NULL THEN
      RAISE EXCEPTION 'hypertables do not support transition tables in triggers';
    END IF;
    CONTINUE WHEN made.tgtype & 3 <> 1 OR NOT stand_in_is_hypertable(made.tgrelid);
    FOR chunk IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = made.tgrelid LOOP
      EXECUTE replace(pg_get_triggerdef(made.oid), ' ON public.readings ', format(' ON %s ', chunk));
    END LOOP;
  END LOOP;
END $$;
CREATE EVENT TRIGGER stand_in_created ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION stand_in_created();

CREATE FUNCTION stand_in_dropped() RETURNS event_trigger LANGUAGE plpgsql SET search_path = public AS $$
DECLARE gone record; chunk regclass;
BEGIN
  FOR gone IN SELECT address_names AS a FROM pg_event_trigger_dropped_objects() WHERE object_type = 'trigger' LOOP
    CONTINUE WHEN to_regclass(format('%I.%I', gone.a[1], gone.a[2])) IS DISTINCT FROM 'readings'::regclass;
    FOR chunk IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'readings'::regclass LOOP
      EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', gone.a[3], chunk);
    END LOOP;
  END LOOP;
END $$;
CREATE EVENT TRIGGER stand_in_dropped ON sql_drop WHEN TAG IN ('DROP TRIGGER') EXECUTE FUNCTION stand_in_dropped();
