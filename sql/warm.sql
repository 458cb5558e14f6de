-- The connections of `warm.sql`. What a query sees is the role's own business (search_path, TimeZone, row security), for the application
-- reads under such settings too; what it may do is not.
SET default_transaction_read_only = on;
-- Anything stronger would take locks, or fail on a standby.
SET default_transaction_isolation = 'read committed';
SET idle_session_timeout = 0;
SET idle_in_transaction_session_timeout = '15s';
-- A daemon that vanished with its machine.
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 3;
SET tcp_keepalives_count = 3;
