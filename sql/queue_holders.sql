-- Who may keep the NOTIFY queue from draining: the oldest transactions of other sessions. Nobody can see who LISTENs, and
-- states are for members of pg_monitor; who is in a transaction at all is shown to everybody, by its lock on itself.
SELECT a.pid::text || ' (' || coalesce(nullif(a.application_name, ''), 'no application_name')
  || coalesce(', ' || a.state, '') || coalesce(' for ' || round(extract(epoch FROM clock_timestamp() - a.xact_start))::text || ' s', '') || ')'
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'virtualxid' AND l.granted AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()
ORDER BY a.xact_start NULLS LAST, a.pid LIMIT 3
