-- What several workers do to shared explanations, each as one step. ARGV[1] says which.
-- KEYS[1] is the prefix with the hash tag, so everything below lies in one place. Layout: explanations_redis.py.

local prefix, what = KEYS[1], ARGV[1]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function lives(worker, now)
  return (tonumber(redis.call('ZSCORE', prefix .. 'w', worker)) or 0) > now
end

-- claim WORKER TTL_MS TENANT KEY... -> for each: the text, 1 (ours), or 0 (a live worker has it)
local function claim()
  local worker, ttl, tenant, now = ARGV[2], ARGV[3], ARGV[4], now_ms()
  local answers = {}
  for place = 5, #ARGV do
    local name = tenant .. ':' .. ARGV[place]
    local text = redis.call('HGET', prefix .. 'o:' .. name, 't')
    if text and #text > 0 then
      answers[#answers + 1] = text
    else
      local holder = redis.call('GET', prefix .. 'c:' .. name)
      if not holder or holder == worker or not lives(holder, now) then
        redis.call('SET', prefix .. 'c:' .. name, worker, 'PX', ttl)
        answers[#answers + 1] = 1
      else
        answers[#answers + 1] = 0
      end
    end
  end
  return answers
end

-- settle WORKER JOB DONE CACHE_TTL_MS TOKEN_TTL_MS TENANT (KEY TEXT READY_MS FAILED_MS CAUSE)...
local function settle()
  local worker, job, done, cache_ttl, token_ttl, tenant = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
  for place = 8, #ARGV, 5 do
    local name = tenant .. ':' .. ARGV[place]
    local outcome, text = prefix .. 'o:' .. name, ARGV[place + 1]
    if #text > 0 then
      redis.call('HSET', outcome, 't', text, 'r', ARGV[place + 2])
      redis.call('PEXPIRE', outcome, cache_ttl)
    elseif redis.call('HEXISTS', outcome, 't') == 0 then
      redis.call('HSET', outcome, 'f', ARGV[place + 3], 'c', ARGV[place + 4])
      redis.call('PEXPIRE', outcome, token_ttl)
    end
    if redis.call('GET', prefix .. 'c:' .. name) == worker then
      redis.call('DEL', prefix .. 'c:' .. name)
    end
  end
  if done == '1' then
    redis.call('HDEL', prefix .. 'j:' .. worker, job)
  end
  return 1
end

-- beat WORKER LEASE_MS JOBS_TTL_MS; a lease of 0 ends it at once. Whoever has been gone for as long as jobs are kept is
-- forgotten: where no worker has a use for orphans, nobody else would
local function beat()
  local workers, now = prefix .. 'w', now_ms()
  redis.call('ZADD', workers, now + ARGV[3], ARGV[2])
  redis.call('PEXPIRE', prefix .. 'j:' .. ARGV[2], ARGV[4])
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', workers, '-inf', now - ARGV[4])) do
    -- Jobs posted after its last beat may have no end of their own.
    redis.call('DEL', prefix .. 'j:' .. gone)
    redis.call('ZREM', workers, gone)
  end
  return 1
end

-- orphans WORKER LIMIT JOBS_TTL_MS -> the jobs of the dead, which are under WORKER now
local function orphans()
  local worker, limit, now, found = ARGV[2], tonumber(ARGV[3]), now_ms(), {}
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'w', '-inf', now)) do
    if dead ~= worker then
      local theirs = redis.call('HGETALL', prefix .. 'j:' .. dead)
      for place = 1, #theirs, 2 do
        if #found >= limit then return found end
        redis.call('HSET', prefix .. 'j:' .. worker, theirs[place], theirs[place + 1])
        redis.call('HDEL', prefix .. 'j:' .. dead, theirs[place])
        found[#found + 1] = theirs[place + 1]
      end
      redis.call('ZREM', prefix .. 'w', dead)
    end
  end
  if #found > 0 then redis.call('PEXPIRE', prefix .. 'j:' .. worker, ARGV[4]) end
  return found
end

-- reserve AMOUNT DAY_MAX MINUTE_MAX -> names of the windows, or nothing if one would be overdrawn
local function reserve()
  local amount, now = tonumber(ARGV[2]), now_ms()
  local windows = {'d' .. math.floor(now / 86400000), 'm' .. math.floor(now / 60000)}
  for place, window in ipairs(windows) do
    local most = tonumber(ARGV[place + 2])
    local spent = tonumber(redis.call('GET', prefix .. window) or 0)
    if most > 0 and spent + amount > most then return '' end
  end
  for place, window in ipairs(windows) do
    redis.call('INCRBY', prefix .. window, ARGV[2])
    redis.call('PEXPIRE', prefix .. window, place == 1 and 172800000 or 180000)
  end
  return windows[1] .. ' ' .. windows[2]
end

-- spend DELTA WINDOW...: what was set aside becomes what was spent, where the window still is
local function spend()
  for place = 3, #ARGV do
    if redis.call('EXISTS', prefix .. ARGV[place]) == 1 then
      redis.call('INCRBY', prefix .. ARGV[place], ARGV[2])
    end
  end
  return 1
end

local steps = {claim = claim, settle = settle, beat = beat, orphans = orphans, reserve = reserve, spend = spend}
return steps[what]()
