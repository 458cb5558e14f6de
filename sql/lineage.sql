-- Which database this is, and on which timeline its server writes. The timeline comes from the insert position: pg_control_checkpoint()
-- still names the old one after a promotion.
SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())::text,
       substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
