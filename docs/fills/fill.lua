-- Stores a value that was read from PostgreSQL, unless a change since may have made it stale. See docs/fills.md.
-- KEYS: the position hash ({pgevict}:position), the key to store, and where a lease is used its key.
-- ARGV: token ('' where it was NULL), time to live in ms, value, id of the lease or '', then a pair for each cache that holds the key:
--       the cache's name, and '' where it is a `key`, the rendered template where it is a `pattern`.
-- Returns 'stored', or why not: 'no-token' 'malformed' 'unguarded' 'mismatch' 'history' 'evicted' 'floor'.
local state, key, lease = KEYS[1], KEYS[2], KEYS[3]
local token, ttl, value, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- Transaction ids have 64 bits, numbers in Lua 53: they are compared as text.
local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- Whether everything that the snapshot `text` sees was seen by the fill.
local function seen(fill, text)
  local xmax, running = string.match(text, '^%d+:(%d+):([%d,]*)$')
  if not xmax then return false end
  if not less(fill.xmin, xmax) then return true end
  -- The id below an xmax has always ended, so a fill that ends below it lacks at least that one.
  if less(fill.xmax, xmax) then return false end
  local unseen = {}
  for x in string.gmatch(running, '%d+') do unseen[x] = true end
  for x in string.gmatch(fill.running, '%d+') do
    if less(x, xmax) and not unseen[x] then return false end
  end
  return true
end

-- Whether the key begins with what the pattern says before its first wildcard: finds templates that were rendered wrong.
local function begins(pattern)
  local at, i = 1, 1
  while i <= #pattern do
    local c = string.sub(pattern, i, i)
    if c == '*' or c == '?' or c == '[' then return true end
    if c == '\\' and i < #pattern then
      i = i + 1
      c = string.sub(pattern, i, i)
    end
    if string.sub(key, at, at) ~= c then return false end
    at, i = at + 1, i + 1
  end
  return at == #key + 1
end

local function verdict()
  if token == '' then return 'no-token' end
  local history, xmin, xmax, running = string.match(token, '^([^/]+)/(%d+):(%d+):([%d,]*)$')
  if not history or #ARGV < 6 or #ARGV % 2 == 1 or not tonumber(ttl) then return 'malformed' end
  local record = redis.call('HMGET', state, 'rec', 'history', 'floor')
  if not (record[1] and record[2] and record[3]) then return 'unguarded' end
  if record[2] ~= history then return 'history' end
  local fill = { xmin = xmin, xmax = xmax, running = running }
  for i = 5, #ARGV, 2 do
    local name = ARGV[i + 1]
    local kind = redis.call('HGET', state, 'g:' .. ARGV[i])
    if not kind then return 'unguarded' end
    if (kind == 'key') ~= (name == '') then return 'mismatch' end
    if name == '' then name = key elseif not begins(name) then return 'mismatch' end
    local batch = redis.call('HGET', state, 't:' .. name)
    local snapshot = batch and redis.call('HGET', state, 'b:' .. batch)
    if snapshot and not seen(fill, snapshot) then return 'evicted' end
  end
  if not seen(fill, record[3]) then return 'floor' end
  redis.call('SET', key, value, 'PX', ttl)
  return 'stored'
end

local answer = verdict()
-- The lease goes whatever became of the value: whoever waits for it looks again.
if lease and id ~= '' and redis.call('GET', lease) == id then redis.call('UNLINK', lease) end
return answer
