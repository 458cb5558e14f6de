-- Pins what a database or role may have set otherwise. A SERIALIZABLE reader would make the application's transactions fail;
-- an asynchronous beacon would prove nothing; a frozen daemon must not keep the bell lock for ever.
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET default_transaction_deferrable = off;
SET synchronous_commit = on;
-- Less than the daemon waits for an answer: a server that lives ends a statement itself.
SET statement_timeout = '8s';
SET lock_timeout = '5s';
SET idle_in_transaction_session_timeout = '15s';
SET idle_session_timeout = '10s';
-- A daemon that vanished with its machine: the server lets go of its connections, those too that hold no lock and may idle.
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 3;
SET tcp_keepalives_count = 3;
SET tcp_user_timeout = 10000;
SET search_path = pg_catalog, pg_temp;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
SET bytea_output = 'hex';
-- The journal's statistics lag behind its bursts: only the index order is ever right for it.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET jit = off;
-- Planned once a session: the page takes a tenth of a millisecond, and planning it three times as long, which the planner would do
-- at every poll because it thinks that the parameters matter.
SET plan_cache_mode = force_generic_plan;
