-- The lease of one cohort: one process at a time works on it, and its token is checked where the
-- cohort's snapshot moves. A later lease always has a larger token, even if the server has lost the
-- earlier ones, since a token is never smaller than the server's time in microseconds.

local LEASE = KEYS[1]
local operation, owner, holder, lasts = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local token = tonumber(ARGV[5])

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local function text(number) return string.format('%.0f', number) end
local function get(name) return redis.call('HGET', LEASE, name) end

local last = tonumber(get('token') or '0')
local until_ = tonumber(get('until') or '0')

local function hold(held)
  redis.call('HSET', LEASE, 'token', text(held), 'owner', owner, 'holder', holder,
             'until', text(now + lasts))
end

local function moved()
  return {get('ledger') or '', tonumber(get('generation') or '0'), get('moved_by') or '',
          tonumber(get('moved_at') or '0')}
end

if operation == 'acquire' then
  -- The owner is a state folder, whose own lock shows that its earlier holder has ended.
  if until_ > now and get('owner') ~= owner then
    return {'held', until_ - now, get('holder')}
  end
  token = math.max(last + 1, now)
  hold(token)
  return {'yours', token, unpack(moved())}
end

if operation == 'read' then return {until_ - now, get('holder') or '', unpack(moved())} end

if last > token then return {'lost', until_ - now, get('holder')} end
if operation == 'release' then
  redis.call('HSET', LEASE, 'until', '0')
elseif operation == 'renew' then
  hold(token) -- If the server has lost the lease, nobody has got it since.
elseif operation == 'move' then
  hold(token)
  redis.call('HSET', LEASE, 'ledger', ARGV[6], 'generation', ARGV[7], 'moved_by', holder,
             'moved_at', text(now))
end
return {'yours', token}
