-- The ceiling of one workspace, which all its processes share: one call, one atomic step.
--
-- It is the rule of engine/pacing/schedule.py and the gate of engine/pacing/gate.py, with the
-- server's clock, in microseconds. A process reserves a time (`reserve`), asks again right before
-- it sends (`start`), and reports the end (`finish`). A reservation without a start is dropped
-- after `RESERVED` microseconds; a request without an end counts as ended at its deadline.
--
-- Each step takes a few commands of O(log N) each for each reservation or end that it is given, and
-- it is given at most 64. What it deletes because it is older than a window was added once.

local STATE, SENDS, ENDS, RESERVED, OPEN, ACCEPTED, SHORTEST, SEEN = unpack(KEYS)
-- Sends and ends: by time. Reserved: by the reserved time. Open: sent without an end, by deadline.
-- Accepted: by the time of the send. Shortest: round trip by process. Seen: last step by process.

local SECOND = 1000000
local RESERVATION = 2 * SECOND
local REENTRY = 3 * SECOND
local PROBE_SILENCE = 3 * SECOND
local PROCESS_SILENCE = 10 * SECOND
local LONGEST_HOLD = 600 * SECOND
local PROBES_ON_TRUST = 3
local CATCH_UP = 3
local SMALLEST_SLACK, LARGEST_MARGIN, WIDENING = 1 / 1800, 1 / 50, 1 / 200
local STEP_DOWN, STEP_UP = 0.9, 0.02
local FORGIVING_WINDOWS, QUIET_WINDOWS = 10, 3
local KEPT = 1.05 -- windows for which a send is kept: the margin is at most 1.02 of them
local NEVER = 9e15

local operation, process, epoch = ARGV[1], ARGV[2], ARGV[3]
local most, window, ceiling = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local argument = 7

local function next_argument()
  argument = argument + 1
  return ARGV[argument - 1]
end

local function text(number)
  if number == math.floor(number) then return string.format('%.0f', number) end
  return string.format('%.17g', number)
end

-- The state: read once, and what has changed is written at the end.

local state, changed = {}, {}
local pairs_read = redis.call('HGETALL', STATE)
for i = 1, #pairs_read, 2 do state[pairs_read[i]] = pairs_read[i + 1] end

local function get(name, default) return tonumber(state[name]) or default end
local function set(name, value)
  if type(value) == 'number' then value = text(value) end
  state[name] = value
  changed[name] = value
end
local function save()
  local fields = {}
  for name, value in pairs(changed) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if #fields > 0 then redis.call('HSET', STATE, unpack(fields)) end
end

-- The time: the server's, but never backwards, whatever is done to its clock.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * SECOND + tonumber(clock[2]) + get('offset', 0)
if now < get('last', 0) then
  set('offset', get('offset', 0) + get('last', 0) - now)
  now = get('last', 0)
end
set('last', now)

local function score_at_rank(key, rank) -- the `rank`-th largest score, or nil
  local found = redis.call('ZREVRANGE', key, rank - 1, rank - 1, 'WITHSCORES')
  return tonumber(found[2])
end

local function add(key, member, score) redis.call('ZADD', key, text(score), member) end

-- Nothing is known of what was sent before there was a state: so a window has to pass.
if not state.epoch then
  set('epoch', epoch)
  set('resumes_at', now + window * (1 + LARGEST_MARGIN))
end

local function clean()
  local old = text(now - KEPT * window)
  for _, key in ipairs({SENDS, ENDS, ACCEPTED}) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', old)
  end
  local unused = redis.call('ZRANGEBYSCORE', RESERVED, '-inf', text(now - RESERVATION), 'LIMIT', 0, 16)
  for _, id in ipairs(unused) do
    redis.call('ZREM', RESERVED, id)
    redis.call('ZREM', SENDS, id)
  end
  local overdue = redis.call('ZRANGEBYSCORE', OPEN, '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, 16)
  for i = 1, #overdue, 2 do
    redis.call('ZREM', OPEN, overdue[i])
    add(ENDS, overdue[i], tonumber(overdue[i + 1]))
  end
  local silent = redis.call('ZRANGEBYSCORE', SEEN, '-inf', text(now - PROCESS_SILENCE), 'LIMIT', 0, 4)
  for _, each in ipairs(silent) do
    redis.call('ZREM', SEEN, each)
    redis.call('ZREM', SHORTEST, each)
  end
end

local function allowed()
  return math.min(math.max(1, math.floor(get('allowed', most))), ceiling)
end

local function slack() return get('slack', window * SMALLEST_SLACK) end

local function shortest()
  local found = redis.call('ZRANGE', SHORTEST, 0, 0, 'WITHSCORES')
  return tonumber(found[2]) or 0
end

-- The earliest time of the next send by the window limit, as `Schedule.earliest`.
local function window_limit(number)
  if redis.call('ZCARD', SENDS) < number then return 0 end
  local sent = score_at_rank(SENDS, number)
  local rank = number - redis.call('ZCARD', OPEN) - redis.call('ZCARD', RESERVED)
  local largest = window * LARGEST_MARGIN
  if rank <= 0 then return sent + window + largest end
  local ended = score_at_rank(ENDS, rank) or sent
  return sent + window + math.min(ended - shortest() + slack() - sent, largest)
end

-- The spacing of sends at the pace in force, and how many of them may go at once to catch up.
local function pace(number)
  if number < ceiling then return (window + slack()) / number, 1 end
  return window / number, CATCH_UP
end

local function cancel(id)
  if redis.call('ZREM', RESERVED, id) == 0 then return end
  redis.call('ZREM', SENDS, id)
  local spacing = pace(allowed())
  set('due', get('due', 0) - spacing)
end

-- The gate, as `Gate`.

local function gate() -- why no request may be sent now, and until when
  if now < get('resumes_at', 0) then return 'resuming', get('resumes_at', 0) end
  local reentered_at = get('reentered_at', -NEVER)
  if now < reentered_at + REENTRY then
    -- Once each process has made a step since then, it has entered what it has sent.
    if redis.call('ZCOUNT', SEEN, '-inf', '(' .. text(reentered_at)) > 0 then
      return 'resuming', now + SECOND / 4
    end
  end
  if now < get('opens_at', 0) then return 'held', get('opens_at', 0) end
  if (state.probe or '') ~= '' then
    local seen = tonumber(redis.call('ZSCORE', SEEN, state.probing)) or 0
    if now - seen < PROBE_SILENCE then return 'held', now + SECOND / 4 end
    set('probe', '')
    set('probe_due', 1)
  end
  return nil
end

local function settle_probe(id, answered)
  if state.probe ~= id then return end
  set('probe', '')
  set('probe_due', answered and 0 or 1)
  if answered then set('strikes', 0) end
end

-- A 429 within the window limit, as `Schedule.strike`.
local function strike()
  set('slack', math.min(slack() + window * WIDENING, window * LARGEST_MARGIN))
  set('forgive_at', now + FORGIVING_WINDOWS * window)
  local repeated = get('flows', 0) == 1 and now - get('struck_at', -NEVER) < QUIET_WINDOWS * window
  if repeated and ceiling > 0 then
    local accepted = redis.call('ZCOUNT', ACCEPTED, '(' .. text(now - window), '+inf')
    local number = math.min(get('allowed', most), math.max(ceiling, accepted))
    local down = number * STEP_DOWN
    if accepted >= number / 2 then down = math.min(accepted, number - 1) end
    set('allowed', math.max(1, down))
    set('found', allowed())
    set('raise_at', now + window)
  end
  set('struck_at', now)
  set('flows', 0)
end

local function throttle(sent_at, retry_after)
  local is_new = sent_at >= get('closed_at', -NEVER)
  if is_new then
    set('strikes', get('strikes', 0) + 1)
    set('closed_at', now)
  end
  local strikes = get('strikes', 0)
  local backoff = math.min(window, 2 ^ math.min(math.max(strikes - 1, 0), 30) * SECOND)
  local hold = retry_after < 0 and backoff or math.min(retry_after, LONGEST_HOLD)
  if strikes > PROBES_ON_TRUST then hold = math.max(hold, backoff) end
  set('opens_at', math.max(get('opens_at', 0), now + hold))
  set('probe_due', 1)
  set('probe', '')
  if is_new then strike() end
end

-- An acceptance, as `Schedule.record_acceptance`.
local function accept(id, sent_at)
  add(ACCEPTED, id, sent_at)
  set('flows', 1)
  if now >= get('forgive_at', NEVER) then
    set('slack', math.max(window * SMALLEST_SLACK, slack() - window * WIDENING))
    set('forgive_at', now + FORGIVING_WINDOWS * window)
  end
  local number = get('allowed', most)
  if now >= get('raise_at', NEVER) and number <= ceiling then
    number = math.min(most, number + math.max(1, most * STEP_UP))
    set('allowed', number)
    set('raise_at', number < most and now + window or NEVER)
  end
end

-- The steps.

local function reserve(count)
  local reason, until_ = gate()
  if reason then return {reason, now, until_} end
  local number = allowed()
  if number <= 0 then return {'held', now, now + SECOND} end
  local spacing, burst = pace(number)
  local reply = {'reserved', now}
  for _ = 1, count do
    local id = process .. '/' .. text(get('reserved', 0) + 1)
    local due = math.max(get('due', 0), now - (burst - 1) * spacing)
    local at = math.ceil(math.max(now, due, window_limit(number)))
    set('due', math.max(due, at - (burst - 1) * spacing) + spacing)
    set('reserved', get('reserved', 0) + 1)
    add(SENDS, id, at)
    add(RESERVED, id, at)
    reply[#reply + 1] = id
    reply[#reply + 1] = at
  end
  return reply
end

local function start(id, timeout)
  local at = tonumber(redis.call('ZSCORE', RESERVED, id) or nil)
  if not at then return {'expired', now, now} end
  if now < at then return {'early', now, at} end
  local reason, until_ = gate()
  if reason then
    cancel(id)
    return {reason, now, until_}
  end
  redis.call('ZREM', RESERVED, id)
  add(SENDS, id, now)
  add(OPEN, id, now + timeout)
  set('started', get('started', 0) + 1)
  local is_probe = get('probe_due', 0)
  if is_probe == 1 then
    set('probe', id)
    set('probing', process)
    set('probe_due', 0)
  end
  return {'sent', now, is_probe, get('started', 0)}
end

-- Enters a request that the server may not know: it has lost it, or could not be reached.
local function enter(id, sent_at)
  if redis.call('ZSCORE', ENDS, id) or redis.call('ZSCORE', OPEN, id) then return end
  if sent_at <= now - KEPT * window then return end
  local is_known = redis.call('ZREM', RESERVED, id) == 1
  add(SENDS, id, sent_at)
  -- Other processes may have such requests, too: give them time to enter theirs.
  if not is_known and now - get('reentered_at', -NEVER) > window then set('reentered_at', now) end
end

local function finish(id, kind, sent_at, ended_at, detail)
  if kind == 'cancelled' then return cancel(id) end
  if kind == 'open' then
    enter(id, sent_at)
    if not redis.call('ZSCORE', ENDS, id) and sent_at + detail > now then
      add(OPEN, id, sent_at + detail)
    end
    return
  end
  local is_first = redis.call('ZREM', OPEN, id) == 1
  if not is_first then
    if redis.call('ZSCORE', ENDS, id) then return end
    enter(id, sent_at)
  end
  add(ENDS, id, kind == 'accepted' and ended_at or ended_at + shortest())
  if kind == 'past' then return end
  if kind == 'throttled' then return throttle(sent_at, detail) end
  settle_probe(id, kind ~= 'failed')
  if kind == 'accepted' then accept(id, sent_at) end
end

local function finish_all()
  local round_trip = tonumber(next_argument())
  add(SHORTEST, process, round_trip)
  for _ = 1, tonumber(next_argument()) do
    local id, kind = next_argument(), next_argument()
    local sent_ago, ended_ago = tonumber(next_argument()), tonumber(next_argument())
    finish(id, kind, now - sent_ago, now - ended_ago, tonumber(next_argument()))
  end
end

local function leave()
  redis.call('ZREM', SEEN, process)
  redis.call('ZREM', SHORTEST, process)
end

clean()
add(SEEN, process, now)
redis.call('ZADD', SHORTEST, 'NX', 0, process)
local reply = {'ok', now}
if operation == 'join' then
  local others = redis.call('ZCARD', SEEN) - 1
  local limits = text(most) .. ' in ' .. text(window)
  if others > 0 and state.limits and state.limits ~= limits then
    leave()
    reply = {'differs', now, state.limits}
  else
    set('limits', limits)
  end
elseif operation == 'reserve' then
  reply = reserve(tonumber(next_argument()))
elseif operation == 'start' then
  local id = next_argument()
  reply = start(id, tonumber(next_argument()))
elseif operation == 'finish' then
  finish_all()
elseif operation == 'leave' then
  finish_all()
  leave()
end
save()
reply[#reply + 1] = state.epoch
reply[#reply + 1] = get('found', 0)
reply[#reply + 1] = allowed()
return reply
