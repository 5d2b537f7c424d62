-- Events of one partition: decided, then written, all at once.
--
-- KEYS  1 head · 2 log · then the keys that the events name by number
-- ARGV  1 spans, packed: kept, ttl of ids, session window, session ttl, profile ttls (user's, anonymous), log retention,
--         ttl of the head (i8 each), log entries max (I4)
--       2.. an event each, packed: numbers of the keys of its id, session (0: not in a session), own profile (0: it is left
--         to the second script) and settled profile (0: none) · type · own profile is a user's · arrival · event time
--         · quantity · taste weight · body hash · item id · session record before and after the sequence · log body
-- Reply {status, then of the first event of that id: sequence, arrival, 1 if its profile is left to the second script}
--       of each event, flat; then the numbers of sessions, profiles, ids and heads that could not be read.

local ACCEPTED, DUPLICATE, CONFLICT = 1, 2, 3
local kept_ms, id_ttl_ms, window_ms, session_ttl_ms, user_ttl_ms, anonymous_ttl_ms, log_ms, head_ttl_ms, log_max =
  struct.unpack('<i8i8i8i8i8i8i8i8I4', ARGV[1])
local HOUR_MS = 3600 * 1000

local head = load_head(KEYS[1])
-- A key of another type must fail before anything is written.
local logged = redis.call('XLEN', KEYS[2])

local function known_id(key)
  local data = redis.call('GET', key)
  if not data then return nil end
  if #data ~= 33 then
    undecodable.id = undecodable.id + 1
    return nil
  end
  local hash, first_sequence, arrival_ms, deferred = struct.unpack('<c16I8i8B', data)
  return {hash = hash, sequence = first_sequence, arrival_ms = arrival_ms, deferred = deferred}
end

local function unpack_event(data)
  local id, session, own, settled, kind, user, arrival_ms, time_ms, quantity, weight, hash, item_bytes, before_bytes,
    after_bytes, body_bytes, at = struct.unpack('<I2I2I2I2BBi8i8i8dc16I2I2I2I4', data)
  local before_at = at + item_bytes
  local after_at = before_at + before_bytes
  local body_at = after_at + after_bytes
  return {
    kind = kind, id = KEYS[id], session = KEYS[session], own = KEYS[own], settled = KEYS[settled], user = user == 1,
    deferred = own == 0 and 1 or 0, arrival_ms = arrival_ms, time_ms = time_ms, quantity = quantity, weight = weight,
    hash = hash, item = string.sub(data, at, before_at - 1), before = string.sub(data, before_at, after_at - 1),
    after = string.sub(data, after_at, body_at - 1), body = string.sub(data, body_at, body_at + body_bytes - 1),
    sequence = 0}
end

local ids, sessions, profiles, ttls, accepted, reply = {}, {}, {}, {}, {}, {}

local function profile_of(key, ttl_ms)
  local profile = profiles[key]
  if not profile then
    profile = load_profile(key)
    profiles[key], ttls[key] = profile, ttl_ms
  end
  return profile
end

local function accept(event)
  local sequence = head.sequence + 1
  head.sequence, event.sequence = sequence, sequence
  accepted[#accepted + 1] = event
  ids[event.id] = event
  if event.session then
    sessions[event.session] = sessions[event.session] or load_session(event.session)
    local record = event.before .. struct.pack('<I8', sequence) .. event.after
    add_to_session(sessions[event.session], event.time_ms, event.arrival_ms, sequence, record, window_ms)
  end
  if event.own then
    apply_to_profile(profile_of(event.own, event.user and user_ttl_ms or anonymous_ttl_ms), event, sequence)
  end
  if event.settled then settle_profile(profile_of(event.settled, anonymous_ttl_ms), event, sequence) end
  head.counts[event.kind] = head.counts[event.kind] + 1
end

for number = 2, #ARGV do
  local event = unpack_event(ARGV[number])
  local first = ids[event.id]
  if not first then
    first = known_id(event.id)
    if first and first.arrival_ms < event.arrival_ms - kept_ms then first = nil end
  end
  local status = ACCEPTED
  if not first then
    accept(event)
    first = ids[event.id]
  else
    ids[event.id] = first
    status = first.hash == event.hash and DUPLICATE or CONFLICT
  end
  reply[#reply + 1] = status
  reply[#reply + 1] = first.sequence
  reply[#reply + 1] = first.arrival_ms
  reply[#reply + 1] = first.deferred
end

if #accepted > 0 then
  local now = redis.call('TIME')
  local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
  local oldest = text_of(math.max(0, now_ms - log_ms))
  local id_ttl = text_of(id_ttl_ms)
  for _, event in ipairs(accepted) do
    local value = event.hash .. struct.pack('<I8i8B', event.sequence, event.arrival_ms, event.deferred)
    redis.call('SET', event.id, value, 'PX', id_ttl)
  end
  -- Once an hour is often enough for an hour more than is promised.
  local renewed = logged == 0 or now_ms > head.kept_ms + HOUR_MS
  if renewed then head.kept_ms = now_ms end
  write_head(head, head_ttl_ms)
  for key, profile in pairs(profiles) do
    if profile.changed then write_profile(profile, ttls[key]) end
  end
  for _, session in pairs(sessions) do write_session(session, session_ttl_ms) end
  if logged + #accepted > log_max then redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', log_max - #accepted) end
  -- Last what cannot be done twice: a Redis that is killed while it writes its file may keep the beginning of a script's
  -- writes, and do them at the start after the next one (README, Durability).
  for _, event in ipairs(accepted) do
    redis.call('XADD', KEYS[2], 'MINID', '~', oldest, '*',
               'seq', text_of(event.sequence), 'at', text_of(event.arrival_ms), 'body', event.body)
  end
  if renewed then redis.call('PEXPIRE', KEYS[2], log_ms + HOUR_MS) end
end
reply[#reply + 1] = undecodable.session
reply[#reply + 1] = undecodable.profile
reply[#reply + 1] = undecodable.id
reply[#reply + 1] = undecodable.head
return reply
