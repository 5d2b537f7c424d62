-- The other half of events whose user's profile lies in another partition than their session: applied once each.
--
-- KEYS  1 head of this partition · then the keys that the events name by number
-- ARGV  1 spans, packed: ttl of marks, profile ttl, ttl of the head (i8 each)
--       2.. an event each, packed: numbers of the keys of its mark and of its profile · type · arrival · event time
--         · quantity · taste weight · sequence in its own partition · item id
-- Reply the number of events applied; then the numbers of sessions, profiles, ids and heads that could not be
--       read.
--
-- The mark holds the event's sequence, so an id that is used again after its retention is another event.

local mark_ttl_ms, profile_ttl_ms, head_ttl_ms = struct.unpack('<i8i8i8', ARGV[1])
local head = load_head(KEYS[1])
local marks, profiles, applied = {}, {}, 0

for number = 2, #ARGV do
  local event, mark, own, source, item_bytes, at = {}
  mark, own, event.kind, event.arrival_ms, event.time_ms, event.quantity, event.weight, source, item_bytes, at =
    struct.unpack('<I2I2Bi8i8i8dI8I2', ARGV[number])
  event.item = string.sub(ARGV[number], at, at + item_bytes - 1)
  local mark_key, profile_key = KEYS[mark], KEYS[own]
  source = string.format('%.0f', source)
  if (marks[mark_key] or redis.call('GET', mark_key)) ~= source then
    marks[mark_key] = source
    profiles[profile_key] = profiles[profile_key] or load_profile(profile_key)
    head.sequence, applied = head.sequence + 1, applied + 1
    apply_to_profile(profiles[profile_key], event, head.sequence)
  end
end

for key, source in pairs(marks) do redis.call('SET', key, source, 'PX', mark_ttl_ms) end
for _, profile in pairs(profiles) do write_profile(profile, profile_ttl_ms) end
if applied > 0 then write_head(head, head_ttl_ms) end
return {applied, undecodable.session, undecodable.profile, undecodable.id, undecodable.head}
