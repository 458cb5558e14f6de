-- Who this server is and which of its histories it lives in. The timeline comes from the insert position: pg_control_checkpoint()
-- still names the old one after a promotion.
SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())::text,
       substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),
       pg_current_snapshot()::text,
       current_setting('max_prepared_transactions')::int,
       to_regclass($1 || '.journal')::oid,
       to_regclass($1 || '.layout')::oid,
       to_regclass($1 || '.lost')::oid,
       pg_relation_filenode(to_regclass($1 || '.journal')),
       (SELECT a.pid::text || '/' || (extract(epoch FROM a.backend_start) * 1000000)::bigint::text FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid())
