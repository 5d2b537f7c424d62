-- The past of one user: profile and history written at once, unless somebody has changed one of them since they were read.
--
-- KEYS  1 head of the partition · 2 profile · 3 history
-- ARGV  1 packed: ttl of profile and history, ttl of the head (i8 each), bytes of the history as it was read (I4)
--       2 the head of the profile as it was read, empty if there was none
--       3 the profile after it, with any sequence; empty: only the history grows · 4 what the history grows by
-- Reply 1 if it was written, 0 if it must be read again; then the number of heads that could not be read.
--
-- Sent twice, it writes once: the second time the profile, or the history, is another one than was read.

local PROFILE_SEQUENCE_AT = 16

local profile_ttl_ms, head_ttl_ms, history_bytes = struct.unpack('<i8i8I4', ARGV[1])
if redis.call('GETRANGE', KEYS[2], 0, PROFILE_HEAD_BYTES - 1) ~= ARGV[2]
  or redis.call('STRLEN', KEYS[3]) ~= history_bytes then return {0, 0} end

if #ARGV[3] > 0 then
  local head = load_head(KEYS[1])
  head.sequence = head.sequence + 1
  local before, after = string.sub(ARGV[3], 1, PROFILE_SEQUENCE_AT), string.sub(ARGV[3], PROFILE_SEQUENCE_AT + 9)
  write_head(head, head_ttl_ms)
  redis.call('SET', KEYS[2], before .. struct.pack('<I8', head.sequence) .. after, 'PX', text_of(profile_ttl_ms))
end
redis.call('SETRANGE', KEYS[3], text_of(history_bytes), ARGV[4])
redis.call('PEXPIRE', KEYS[3], text_of(profile_ttl_ms))
return {1, undecodable.head}
