-- Schema of pgevict, both deliveries. Runs as it stands, any number of times; for another schema the compiler replaces the name.
-- Application roles get no right on anything in it: the triggers run as the owner of their functions.
DO $pgevict$
BEGIN
  IF to_regnamespace(quote_ident('pgevict')) IS NULL THEN
    CREATE SCHEMA pgevict;
    -- What `sql down` may remove is what carries this mark.
    COMMENT ON SCHEMA pgevict IS 'pgevict: made by pgevict sql up';
  END IF;
END
$pgevict$;

-- The layouts that journal rows refer to: rows stay readable after the configuration has moved on.
CREATE TABLE IF NOT EXISTS pgevict.layout (
  id           bigint      CONSTRAINT layout_pkey PRIMARY KEY,
  tbl          text        NOT NULL,
  spec         text        NOT NULL,
  installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row, which the daemon changes every few seconds: the change must come back by the way of every other one. No index covers `nonce` and the
-- page has room, so an update stays on it and leaves nothing for vacuum.
CREATE TABLE IF NOT EXISTS pgevict.probe (
  one   boolean CONSTRAINT probe_pkey PRIMARY KEY DEFAULT true CONSTRAINT probe_one CHECK (one),
  nonce text    NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_analyze_threshold = 100000, vacuum_truncate = off);
INSERT INTO pgevict.probe (nonce) SELECT '' WHERE NOT EXISTS (SELECT FROM pgevict.probe);

-- The last layer of a capture: a sequence is not transactional, so it moves when nothing else could be written.
CREATE SEQUENCE IF NOT EXISTS pgevict.lost;
