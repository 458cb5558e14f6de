-- Sets the key that the probe's change must delete. The UNLINK comes first: once a script has written, commands that need memory are let
-- through (see apply.lua), so a full Redis, in which deletes go on, does not fail the probe.
redis.call('UNLINK', KEYS[1])
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
