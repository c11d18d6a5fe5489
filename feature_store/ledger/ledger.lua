-- The ledger in Redis: one script, so that each of its steps is one that nobody interleaves.
-- KEYS[1] is the namespace; ARGV[1] the step, the rest its arguments. Amounts are whole numbers
-- below 2^53, which Lua's numbers hold exactly; they are written out in full, never as 1e+15.
--   a:NAME  account: claims, reserved, settled, expected, shared     v  shared accounts by version
--   c:ID    claim                                                    n  the last version
--   x:NAME  expectation: account, amount                             d  what is due, by its time
--   u:USER  the ids of a user's claims
local ns, step = KEYS[1], ARGV[1]
local EXPIRED_AT_ONCE = 500
local FIELDS = {'item', 'user', 'state', 'reserved', 'settled', 'claim_time', 'expire_time',
                'settle_time', 'basket'}

local function text(number)
  if number == 0 then return '0' end  -- Lua has a -0, which HINCRBY refuses
  return string.format('%.0f', number)
end

local function account(name)
  local found = redis.call('HMGET', ns .. 'a:' .. name, 'claims', 'reserved', 'settled', 'expected')
  for i = 1, 4 do found[i] = tonumber(found[i] or '0') or 0 end
  return found
end

local function touch(name)
  redis.call('ZADD', ns .. 'v', text(redis.call('INCR', ns .. 'n')), name)
end

local function add(name, claims, reserved, settled, expected)
  local key = ns .. 'a:' .. name
  if redis.call('EXISTS', key) == 0 then return end
  redis.call('HINCRBY', key, 'claims', text(claims))
  redis.call('HINCRBY', key, 'reserved', text(reserved))
  redis.call('HINCRBY', key, 'settled', text(settled))
  redis.call('HINCRBY', key, 'expected', text(expected))
  if redis.call('HGET', key, 'shared') == '1' then touch(name) end
end

local function open_account(name, shared)
  redis.call('HSETNX', ns .. 'a:' .. name, 'claims', '0')
  if shared == '1' then redis.call('HSET', ns .. 'a:' .. name, 'shared', '1') end
end

local function release(name)
  local found = redis.call('HMGET', ns .. 'x:' .. name, 'account', 'amount')
  if not found[1] then return 0 end
  add(found[1], 0, 0, 0, -tonumber(found[2]))
  redis.call('DEL', ns .. 'x:' .. name)
  redis.call('ZREM', ns .. 'd', 'x:' .. name)
  return 1
end

local function expire_claim(id)
  local key = ns .. 'c:' .. id
  local reserved = tonumber(redis.call('HGET', key, 'reserved'))
  for _, name in ipairs(cjson.decode(redis.call('HGET', key, 'accounts'))) do
    add(name, -1, -reserved, 0, 0)
  end
  redis.call('HSET', key, 'state', 'expired')
  redis.call('ZREM', ns .. 'd', 'c:' .. id)
end

local function expire(now, limit)
  local due = redis.call('ZRANGEBYSCORE', ns .. 'd', '-inf', now, 'LIMIT', 0, limit)
  for _, member in ipairs(due) do
    local name = string.sub(member, 3)
    if string.sub(member, 1, 2) == 'x:' then release(name) else expire_claim(name) end
  end
  return #due
end

local function find(id)
  local key = ns .. 'c:' .. id
  if redis.call('EXISTS', key) == 0 then return {} end
  local found = redis.call('HMGET', key, unpack(FIELDS))
  table.insert(found, 1, id)
  return found
end

-- Why an account would be too full; nil: it would not.
local function refusal(found, max_micros, max_claims, claims, micros)
  if max_claims >= 0 and found[1] + claims > max_claims then return 'cap_reached' end
  if max_micros >= 0 and found[2] + found[3] + found[4] + micros > max_micros then
    return 'budget_spent'
  end
end

-- The first item that the user holds and that bars a claim; nil: none does.
local function barring(user, now, barred)
  local is_barred, first, since = {}, nil, math.huge
  for _, item in ipairs(barred) do is_barred[item] = true end
  for _, id in ipairs(redis.call('SMEMBERS', ns .. 'u:' .. user)) do
    local found = redis.call('HMGET', ns .. 'c:' .. id, 'item', 'state', 'claim_time', 'expire_time')
    local is_open = found[2] == 'reserved' and tonumber(found[4]) > tonumber(now)
    if is_open and is_barred[found[1]] and tonumber(found[3]) < since then
      first, since = found[1], tonumber(found[3])
    end
  end
  return first
end

local steps = {}

function steps.claim(id, item, user, micros, now, due, expectations, barred, ...)
  expire(now, EXPIRED_AT_ONCE)
  local there = find(id)
  if #there > 0 then return {'repeated', '', there} end
  local others = cjson.decode(barred)
  local held = #others > 0 and user ~= '' and barring(user, now, others)
  if held then return {'barred', held, {}} end
  local charges, drawn, sources = {...}, {}, {}
  for _, expectation in ipairs(cjson.decode(expectations)) do
    local found = redis.call('HMGET', ns .. 'x:' .. expectation, 'account', 'amount')
    for i = 1, #charges, 4 do
      if charges[i] == found[1] then
        drawn[found[1]] = math.min(tonumber(found[2]), tonumber(micros))
        sources[found[1]] = expectation
      end
    end
  end
  local names = {}
  for i = 1, #charges, 4 do
    local taken = tonumber(micros) - (drawn[charges[i]] or 0)
    local why = refusal(account(charges[i]), tonumber(charges[i + 1]), tonumber(charges[i + 2]),
                        1, taken)
    if why then return {why, charges[i], {}} end
    table.insert(names, charges[i])
  end
  for i = 1, #charges, 4 do
    open_account(charges[i], charges[i + 3])
    local part = drawn[charges[i]] or 0
    add(charges[i], 1, tonumber(micros), 0, -part)
    if part > 0 then
      redis.call('HINCRBY', ns .. 'x:' .. sources[charges[i]], 'amount', text(-part))
    end
  end
  redis.call('HSET', ns .. 'c:' .. id, 'item', item, 'user', user, 'state', 'reserved',
             'reserved', micros, 'settled', '0', 'claim_time', now, 'expire_time', due,
             'settle_time', '0', 'basket', '', 'accounts', cjson.encode(names))
  redis.call('ZADD', ns .. 'd', due, 'c:' .. id)
  if user ~= '' then redis.call('SADD', ns .. 'u:' .. user, id) end
  return {'granted', '', find(id)}
end

function steps.redeem(id, basket, micros, now)
  expire(now, EXPIRED_AT_ONCE)
  local key = ns .. 'c:' .. id
  local found = redis.call('HMGET', key, 'state', 'basket', 'reserved', 'expire_time', 'accounts')
  local state, reserved = found[1], tonumber(found[3] or '0')
  if not state then return {'unknown', {}} end
  if state == 'settled' then
    return {found[2] == basket and 'settled' or 'already_used', find(id)}
  end
  if state == 'expired' or tonumber(found[4]) <= tonumber(now) then return {'expired', find(id)} end
  if tonumber(micros) > reserved then return {'exceeds_reservation', find(id)} end
  redis.call('HSET', key, 'state', 'settled', 'settled', micros, 'settle_time', now,
             'basket', basket)
  redis.call('ZREM', ns .. 'd', 'c:' .. id)
  for _, name in ipairs(cjson.decode(found[5])) do
    add(name, 0, -reserved, tonumber(micros), 0)
  end
  return {'settled', find(id)}
end

function steps.expect(expectation, micros, now, due, name, max_micros, max_claims, shared)
  expire(now, EXPIRED_AT_ONCE)
  if redis.call('EXISTS', ns .. 'x:' .. expectation) == 1 then return 1 end
  if refusal(account(name), tonumber(max_micros), tonumber(max_claims), 0, tonumber(micros)) then
    return 0
  end
  open_account(name, shared)
  add(name, 0, 0, 0, tonumber(micros))
  redis.call('HSET', ns .. 'x:' .. expectation, 'account', name, 'amount', micros)
  redis.call('ZADD', ns .. 'd', due, 'x:' .. expectation)
  return 1
end

function steps.release(expectation) return release(expectation) end

function steps.expire(now) return expire(now, EXPIRED_AT_ONCE) end

function steps.changes(since)
  local found = redis.call('ZRANGEBYSCORE', ns .. 'v', '(' .. since, '+inf', 'WITHSCORES')
  local rows, version = {}, since
  for i = 1, #found, 2 do
    local one = account(found[i])
    table.insert(rows, {found[i], text(one[1]), text(one[2]), text(one[3]), text(one[4])})
    version = found[i + 1]
  end
  return {version, rows}
end

function steps.claims_of(user)
  local rows = {}
  for _, id in ipairs(redis.call('SMEMBERS', ns .. 'u:' .. user)) do
    local one = find(id)
    if one[4] ~= 'expired' then table.insert(rows, one) end
  end
  return rows
end

function steps.find(id) return find(id) end

-- Another user, or '' for nobody, has the claims; accounts that name the user go along or go.
function steps.move(source, target)
  local ids = redis.call('SMEMBERS', ns .. 'u:' .. source)
  for _, id in ipairs(ids) do
    local key = ns .. 'c:' .. id
    local found = redis.call('HMGET', key, 'state', 'reserved', 'settled', 'accounts')
    local held = found[1] == 'reserved' and tonumber(found[2]) or 0
    local names = {}
    for _, name in ipairs(cjson.decode(found[4])) do
      local first, last = string.find(name, source, 1, true)
      local moved = name
      if first then
        moved = string.sub(name, 1, first - 1) .. target .. string.sub(name, last + 1)
        if target ~= '' and found[1] ~= 'expired' then
          open_account(moved, '0')
          add(moved, 1, held, tonumber(found[3]), 0)
        end
        redis.call('DEL', ns .. 'a:' .. name)
      end
      if not first or target ~= '' then table.insert(names, moved) end
    end
    redis.call('HSET', key, 'user', target, 'accounts', #names > 0 and cjson.encode(names) or '[]')
    if target ~= '' then redis.call('SADD', ns .. 'u:' .. target, id) end
  end
  redis.call('DEL', ns .. 'u:' .. source)
  return #ids
end

return steps[step](unpack(ARGV, 2))
