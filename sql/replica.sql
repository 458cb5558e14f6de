-- What the server of `warm.replica_url` is: whether it replays, of which database, on which timeline, and what its statements see. The
-- control file follows a timeline with the next restartpoint: it may name an earlier one than the standby is on, never a later one.
SELECT pg_is_in_recovery(),
       (SELECT system_identifier FROM pg_control_system())::text || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())::text,
       (SELECT upper(lpad(to_hex(greatest(c.timeline_id, r.min_recovery_end_timeline)), 8, '0')) FROM pg_control_checkpoint() AS c, pg_control_recovery() AS r),
       pgevict.token()
