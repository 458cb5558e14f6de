-- Who holds the leader's lock ($1, $2): its process, the name that it writes into the record, and whether the server is busy for it.
-- A role that may not see the other session gets NULLs, which say "busy": nobody is ended on a guess.
SELECT a.pid, a.pid::text || '/' || (extract(epoch FROM a.backend_start) * 1000000)::bigint::text,
       coalesce(a.state = 'active' AND a.wait_event_type IS DISTINCT FROM 'Client', true)
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = $1::int::oid AND l.objid = $2::int::oid AND l.objsubid = 2
