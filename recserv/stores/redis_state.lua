-- What both scripts share: sessions and profiles in the layout of packed.py, and how an event changes them. The rules
-- are those of state.py; a test runs both over the same events. Nothing here writes: a script reads and decides first,
-- then writes, so that an error of Redis on the way (a key of another type, no memory) leaves nothing half done.

local SESSION_HEAD, SESSION_HEAD_BYTES = '<BBI2I8i8i8', 28
local PROFILE_HEAD, PROFILE_HEAD_BYTES = '<BBI2I2I2I8I8i8I4I4', 40
local RECORD_BYTES_MIN = 30
local LAYOUT = 1
-- A full session is cut to the events that count when so many are stored: to list a hundred records for each new one, and
-- to write them all, takes most of a script's time and of what goes to the file and the replicas.
local SESSION_STORED_MAX = 128
local SESSION_EVENTS_MAX, CART_MAX, PURCHASES_MAX, TASTES_MAX = 100, 100, 200, 50
local HALF_LIFE_MS = 7 * 24 * 3600 * 1000
local LN2 = math.log(2)
local HEAD, HEAD_BYTES = '<I8i8I8I8I8I8I8I8I8I8I8', 88
-- A session smaller than this is written whole; to a larger one its new records are appended.
local SMALL_SESSION_BYTES = 1024
local ADD, REMOVE, PURCHASE, DISLIKE = 3, 4, 5, 9

-- Records that could not be read, by kind; they are taken for nothing stored.
local undecodable = {session = 0, profile = 0, id = 0, head = 0}

-- A whole number as an argument of a command. Redis would print it as it prints fractions, which takes a microsecond.
local function text_of(number)
  return string.format('%d', number)
end

-- Heads -------------------------------------------------------------------------------------------------------------

-- Of a partition: its sequence, when the log's time to live was set last, and the counters by event type.
local function load_head(key)
  local head = {key = key, sequence = 0, kept_ms = 0, counts = {0, 0, 0, 0, 0, 0, 0, 0, 0}}
  local data = redis.call('GET', key)
  if not data then return head end
  if #data ~= HEAD_BYTES then
    undecodable.head = undecodable.head + 1
    return head
  end
  local counts = head.counts
  head.sequence, head.kept_ms, counts[1], counts[2], counts[3], counts[4], counts[5], counts[6], counts[7], counts[8],
    counts[9] = struct.unpack(HEAD, data)
  return head
end

local function write_head(head, ttl_ms)
  redis.call('SET', head.key, struct.pack(HEAD, head.sequence, head.kept_ms, unpack(head.counts)), 'PX', ttl_ms)
end

-- Sessions ----------------------------------------------------------------------------------------------------------

local function load_session(key)
  local session = {key = key, data = '', count = 0, version = 0, last_ms = 0, oldest_ms = 0, added = {}}
  local data = redis.call('GET', key)
  if not data then return session end
  if #data >= SESSION_HEAD_BYTES and string.byte(data) == LAYOUT then
    local _
    _, _, session.count, session.version, session.last_ms, session.oldest_ms = struct.unpack(SESSION_HEAD, data)
    session.data = data
  else
    undecodable.session = undecodable.session + 1
  end
  return session
end

-- The records that count, as a list of {event time, arrival, bytes}: needed where an event does not simply go to the end.
local function list_session(session)
  local list = {}
  local records = string.sub(session.data, SESSION_HEAD_BYTES + 1) .. table.concat(session.added)
  local at, length = 1, #records
  while at <= length do
    local size, time_ms, arrival_ms, _ = 0
    if at + RECORD_BYTES_MIN - 1 <= length then
      size, _, _, time_ms, arrival_ms = struct.unpack('<I2BBi8i8', records, at)
    end
    if size < RECORD_BYTES_MIN or at + size - 1 > length then
      undecodable.session = undecodable.session + 1
      list = {}
      break
    end
    list[#list + 1] = {time_ms, arrival_ms, string.sub(records, at, at + size - 1)}
    at = at + size
  end
  if #list > SESSION_EVENTS_MAX then
    local last = {}
    for place = #list - SESSION_EVENTS_MAX + 1, #list do last[#last + 1] = list[place] end
    list = last
  end
  session.list, session.count = list, #list
end

local function add_to_session(session, time_ms, arrival_ms, sequence, record, window_ms)
  local horizon_ms = arrival_ms - window_ms
  if not session.list then
    local in_order = session.count == 0 or time_ms >= session.last_ms
    local room = session.count < SESSION_EVENTS_MAX
      or (session.count < SESSION_STORED_MAX and session.oldest_ms > horizon_ms)
    if in_order and room then
      session.oldest_ms = session.count == 0 and arrival_ms or math.min(session.oldest_ms, arrival_ms)
      session.added[#session.added + 1] = record
      session.count, session.last_ms, session.version = session.count + 1, time_ms, sequence
      return
    end
    list_session(session)
  end
  local list = session.list
  if #list >= SESSION_EVENTS_MAX and session.oldest_ms <= horizon_ms then
    local kept, oldest_ms = {}, arrival_ms
    for _, held in ipairs(list) do
      if held[2] > horizon_ms then
        kept[#kept + 1] = held
        oldest_ms = math.min(oldest_ms, held[2])
      end
    end
    list, session.list, session.oldest_ms = kept, kept, oldest_ms
  end
  session.oldest_ms = #list == 0 and arrival_ms or math.min(session.oldest_ms, arrival_ms)
  -- Sequences only grow, so among equal event times the new one is last.
  local place = #list
  while place > 0 and list[place][1] > time_ms do place = place - 1 end
  table.insert(list, place + 1, {time_ms, arrival_ms, record})
  if #list > SESSION_EVENTS_MAX then table.remove(list, 1) end
  session.count, session.last_ms, session.version = #list, list[#list][1], sequence
end

local function write_session(session, ttl_ms)
  local head = struct.pack(
    SESSION_HEAD, LAYOUT, 0, session.count, session.version, session.last_ms, session.oldest_ms)
  if session.list then
    local records = {head}
    for _, held in ipairs(session.list) do records[#records + 1] = held[3] end
    redis.call('SET', session.key, table.concat(records), 'PX', ttl_ms)
  elseif #session.data > SMALL_SESSION_BYTES then
    redis.call('SETRANGE', session.key, 0, head)
    -- What APPEND does, but to do it twice is to do it once: see the end of redis_append.lua.
    redis.call('SETRANGE', session.key, text_of(#session.data), table.concat(session.added))
    redis.call('PEXPIRE', session.key, ttl_ms)
  else
    local records = string.sub(session.data, SESSION_HEAD_BYTES + 1)
    redis.call('SET', session.key, head .. records .. table.concat(session.added), 'PX', ttl_ms)
  end
end

-- Profiles ----------------------------------------------------------------------------------------------------------

-- The sections stay bytes until an event concerns them: a view looks at tastes only.
local function load_profile(key)
  local profile = {key = key, event_count = 0, sequence = 0, updated_ms = 0,
                   cart = {bytes = '', count = 0}, purchases = {bytes = '', count = 0}, tastes = {bytes = '', count = 0}}
  local data = redis.call('GET', key)
  if not data then return profile end
  if #data >= PROFILE_HEAD_BYTES and string.byte(data) == LAYOUT then
    local _, _, carts, bought, liked, event_count, sequence, updated_ms, cart_bytes, purchases_bytes =
      struct.unpack(PROFILE_HEAD, data)
    local purchases_at = PROFILE_HEAD_BYTES + cart_bytes
    local tastes_at = purchases_at + purchases_bytes
    if tastes_at <= #data then
      profile.event_count, profile.sequence, profile.updated_ms = event_count, sequence, updated_ms
      profile.cart = {bytes = string.sub(data, PROFILE_HEAD_BYTES + 1, purchases_at), count = carts}
      profile.purchases = {bytes = string.sub(data, purchases_at + 1, tastes_at), count = bought}
      profile.tastes = {bytes = string.sub(data, tastes_at + 1), count = liked}
      return profile
    end
  end
  undecodable.profile = undecodable.profile + 1
  return profile
end

-- A section as a list of {id, number} or {id, weight, time}.
local function open_section(section, form)
  if section.list then return section.list end
  local list, at, bytes = {}, 1, section.bytes
  local good = pcall(function()
    while at <= #bytes do
      local first, second, length
      if form == '<i8I2' then
        first, length, at = struct.unpack(form, bytes, at)
      else
        first, second, length, at = struct.unpack(form, bytes, at)
      end
      if at + length - 1 > #bytes then error('cut off') end
      list[#list + 1] = {string.sub(bytes, at, at + length - 1), first, second}
      at = at + length
    end
  end)
  if not good or #list ~= section.count then
    undecodable.profile = undecodable.profile + 1
    list = {}
  end
  section.list = list
  return list
end

local function section_bytes(section, form)
  if not section.list then return section.bytes end
  local parts = {}
  for _, held in ipairs(section.list) do
    if held[3] then
      parts[#parts + 1] = struct.pack(form, held[2], held[3], #held[1])
    else
      parts[#parts + 1] = struct.pack(form, held[2], #held[1])
    end
    parts[#parts + 1] = held[1]
  end
  section.count = #section.list
  return table.concat(parts)
end

local function index_of(list, id)
  for place, held in ipairs(list) do
    if held[1] == id then return place end
  end
end

-- The cart keeps the order of first insertion. True if it changed.
local function change_cart(profile, kind, id, quantity)
  if kind ~= ADD and kind ~= REMOVE and kind ~= PURCHASE then return false end
  local cart = open_section(profile.cart, '<i8I2')
  local place = index_of(cart, id)
  if kind == ADD then
    local units = math.max(quantity, 1)
    if place then
      cart[place][2] = cart[place][2] + units
    else
      cart[#cart + 1] = {id, units}
      if #cart > CART_MAX then table.remove(cart, 1) end
    end
    return true
  end
  if not place then return false end
  local left = cart[place][2] - quantity
  if kind == REMOVE and quantity > 0 and left > 0 then
    cart[place][2] = left
  else
    table.remove(cart, place)
  end
  return true
end

-- One entry an item, with its latest time, oldest first.
local function add_purchase(profile, id, time_ms)
  local purchases = open_section(profile.purchases, '<i8I2')
  local place = index_of(purchases, id)
  if place then
    if purchases[place][2] > time_ms then return end
    table.remove(purchases, place)
  end
  place = #purchases
  while place > 0 and purchases[place][2] > time_ms do place = place - 1 end
  table.insert(purchases, place + 1, {id, time_ms})
  if #purchases > PURCHASES_MAX then table.remove(purchases, 1) end
end

local function decayed(weight, age_ms)
  return age_ms == 0 and weight or weight * 2 ^ (-age_ms / HALF_LIFE_MS)
end

local function strength(taste)
  return math.log(math.max(math.abs(taste[2]), 1e-9)) / LN2 + taste[3] / HALF_LIFE_MS
end

local function add_taste(profile, id, weight, time_ms)
  local tastes = open_section(profile.tastes, '<di8I2')
  local place = index_of(tastes, id)
  if place then
    local held = table.remove(tastes, place)
    if held[2] < 0 or weight < 0 then
      -- A dislike: the later word counts, the dislike if both are of one time.
      local later = time_ms > held[3] or (time_ms == held[3] and weight < held[2])
      tastes[#tastes + 1] = later and {id, weight, time_ms} or held
      return
    end
    local newest_ms = math.max(held[3], time_ms)
    tastes[#tastes + 1] = {id, decayed(held[2], newest_ms - held[3]) + decayed(weight, newest_ms - time_ms), newest_ms}
    return
  end
  tastes[#tastes + 1] = {id, weight, time_ms}
  if #tastes <= TASTES_MAX then return end
  local weakest, least = 1, strength(tastes[1])
  for other = 2, #tastes do
    local found = strength(tastes[other])
    if found < least then weakest, least = other, found end
  end
  table.remove(tastes, weakest)
end

-- True if there was one.
local function drop_taste(profile, id)
  local tastes = open_section(profile.tastes, '<di8I2')
  local place = index_of(tastes, id)
  if place then table.remove(tastes, place) end
  return place ~= nil
end

local function touch_profile(profile, event, sequence)
  profile.sequence = sequence
  profile.updated_ms = math.max(profile.updated_ms, event.arrival_ms)
  profile.changed = true
end

-- An event of the profile's own.
local function apply_to_profile(profile, event, sequence)
  change_cart(profile, event.kind, event.item, event.quantity)
  if event.kind == PURCHASE and #event.item > 0 then add_purchase(profile, event.item, event.time_ms) end
  if (event.weight > 0 or event.kind == DISLIKE) and #event.item > 0 then
    add_taste(profile, event.item, event.weight, event.time_ms)
  end
  profile.event_count = profile.event_count + 1
  touch_profile(profile, event, sequence)
end

-- An event of the session's, by now known, user: see state.settle_anonymous.
local function settle_profile(profile, event, sequence)
  local changed = change_cart(profile, event.kind, event.item, event.quantity)
  if event.kind == DISLIKE and drop_taste(profile, event.item) then changed = true end
  if changed then touch_profile(profile, event, sequence) end
end

local function write_profile(profile, ttl_ms)
  local cart = section_bytes(profile.cart, '<i8I2')
  local purchases = section_bytes(profile.purchases, '<i8I2')
  local tastes = section_bytes(profile.tastes, '<di8I2')
  local head = struct.pack(
    PROFILE_HEAD, LAYOUT, 0, profile.cart.count, profile.purchases.count, profile.tastes.count,
    profile.event_count, profile.sequence, profile.updated_ms, #cart, #purchases)
  redis.call('SET', profile.key, head .. cart .. purchases .. tastes, 'PX', ttl_ms)
end
