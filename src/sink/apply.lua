-- Deletes, moves the position and says what was there; nothing at all when the position is not the expected one.
-- KEYS: the position hash, a key that never exists, the alive key, then the keys to delete.
-- ARGV: expected record ('' for none), new record ('' deletes it), alive time in ms ('' takes it away, '-' leaves it), a number of pairs, what is asked of the
-- keys before they go ('' nothing, otherwise a letter a key: 'i' idle time, 'f' frequency, '-' nothing), that many pairs of field, value
-- (tombstones and floor among them: they stand with the deletes or not at all), and fields to drop. The answers to what is asked come last.
-- Plain script without a shebang: on every version from 6.2 on, commands that need memory are let through once a script has written, so the
-- UNLINK comes first, of the key that never exists where there is no other; under OOM deletes and position then still move.
local record = redis.call('HGET', KEYS[1], 'rec') or ''
if record ~= ARGV[1] then return {0, record} end
if not KEYS[4] then redis.call('UNLINK', KEYS[2]) end
local gone, ask, said = {1}, ARGV[5] or '', {}
for i = 4, #KEYS do
  local letter = ask ~= '' and string.sub(ask, i - 3, i - 3) or '-'
  if letter ~= '-' then
    -- The last moment at which Redis knows how the key was used. Where it refuses, its words are the answer.
    local used = redis.pcall('OBJECT', letter == 'f' and 'FREQ' or 'IDLETIME', KEYS[i])
    said[#said + 1] = type(used) == 'table' and (used.err or '?') or used or -1
  end
  gone[i - 2] = redis.call('UNLINK', KEYS[i])
end
if ask ~= '' then gone[#gone + 1] = said end
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], 'rec') else redis.call('HSET', KEYS[1], 'rec', ARGV[2]) end
local last = 5 + 2 * (tonumber(ARGV[4]) or 0)
-- In portions, because unpack fails at some 8 000; the drops first, so that what is written stays.
for i = last + 1, #ARGV, 1000 do redis.call('HDEL', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
for i = 6, last, 1000 do redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, last))) end
if ARGV[3] == '' then redis.call('UNLINK', KEYS[3]) elseif ARGV[3] ~= '-' then redis.call('SET', KEYS[3], '1', 'PX', ARGV[3]) end
return gone
