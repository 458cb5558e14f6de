-- Copies of journal rows that could not be read, for whoever looks into it. Runs as it stands, any number of times, after journal.sql.
CREATE TABLE IF NOT EXISTS pgevict.poison (
  xid       xid8        NOT NULL,
  seq       bigint      NOT NULL,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  why       text        NOT NULL,
  copied    jsonb       NOT NULL,
  CONSTRAINT poison_pkey PRIMARY KEY (xid, seq)
);

-- bury(xids, seqs, whys): copies these rows of the journal, long values cut, each row once. The newest 1000 copies stay, for 30 days at most.
DO $pgevict$
DECLARE
  body constant text := $body$
DECLARE
  copies integer;
BEGIN
  INSERT INTO pgevict.poison AS p (xid, seq, why, copied)
  SELECT j.xid, j.seq, left(w.why, 1000), jsonb_build_object(
    'at', j.at::text, 'layout', j.layout, 'tbl', left(j.tbl, 1000), 'kind', j.kind::text, 'op', j.op::text, 'note', left(j.note, 1000),
    'classes', CASE WHEN pg_column_size(j.classes) > 65536 THEN pg_column_size(j.classes)::text || ' bytes' ELSE left(j.classes::text, 1000) END,
    'tuples', CASE WHEN pg_column_size(j.tuples) > 65536 THEN pg_column_size(j.tuples)::text || ' bytes, compressed' ELSE left(j.tuples::text, 8000) END)
  FROM unnest(bury.xids, bury.seqs, bury.whys) AS w (xid, seq, why)
  JOIN pgevict.journal AS j ON j.xid = w.xid::text::xid8 AND j.seq = w.seq
  ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS copies = ROW_COUNT;
  DELETE FROM pgevict.poison AS p WHERE p.at < clock_timestamp() - interval '30 days'
    OR (p.xid, p.seq) IN (SELECT o.xid, o.seq FROM pgevict.poison AS o ORDER BY o.at DESC, o.xid DESC, o.seq DESC OFFSET 1000);
  RETURN copies;
END
$body$;
  signature constant text := quote_ident('pgevict') || '.bury';
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_catalog.pg_proc
    WHERE oid = to_regprocedure(signature || '(bigint[],bigint[],text[])') AND prosrc = body
  ) THEN
    EXECUTE 'CREATE OR REPLACE FUNCTION ' || signature || '(xids bigint[], seqs bigint[], whys text[]) RETURNS integer'
      || ' LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS ' || quote_literal(body);
    EXECUTE 'REVOKE ALL ON FUNCTION ' || signature || '(bigint[], bigint[], text[]) FROM PUBLIC';
  END IF;
END
$pgevict$;
