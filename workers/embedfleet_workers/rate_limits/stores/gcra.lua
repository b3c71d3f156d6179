-- GCRA: the state of one rate limit in one hash, every operation in one round trip, by the server's
-- clock. `gcra.py` says what each step is for; a test holds the two to the same answers.
--
-- KEYS: the state of the limit; what belongs to it has its name and a suffix.
-- ARGV: operation; microseconds ('' = the server's clock, tests bring their own); a name for a new
--       state; what the operation needs; last, four words per dimension: its name, an amount, and
--       two more that depend on the operation.

local SECOND, MINUTE = 1e6, 60e6
local NEAR, STOP = 3000, 10 * SECOND
local BURST, LAG, SLICE, SLICES = 0.25 * SECOND, 3 * SECOND, 2 * SECOND, 31
local SANE_SHARE = 0.2
local TOLERANCE, FOREIGN_TAU, PLAUSIBLE, RESERVE = 0.02, 10 * SECOND, 0.25, 0.04
local STRIKES, STRIKE_SHARE, STRIKE_TIME = 3, 0.1, 10 * SECOND
local CUT, SLOWEST, RECOVERY = 0.8, 0.05, 0.02 / (5 * SECOND)
local FIRST_PAUSE, LONGEST_PAUSE, PROBE = 0.5 * SECOND, 15 * SECOND, 2 * SECOND
-- The state outlives any wait, and a key that nobody uses any more goes.
local KEEP_MS = 3600 * 1000
-- A slot that was handed over is taken up at once, or was handed to the dead.
local TAKE_UP, SILENT = 5 * SECOND, 3 * SECOND

local op, nonce = ARGV[1], ARGV[3]
local STATE, USE = KEYS[1], KEYS[1] .. ':use'
-- Requests under way, who waits for a slot among them, and when each of these was last heard of.
local TAKEN, QUEUE, HEARD = KEYS[1] .. ':taken', KEYS[1] .. ':queue', KEYS[1] .. ':heard'
local now = tonumber(ARGV[2])
if now == nil then
    local time = redis.call('TIME')
    now = tonumber(time[1]) * SECOND + tonumber(time[2])
end

local function text(number) return string.format('%.17g', number) end

-- State ------------------------------------------------------------------------------------------
-- Numbers are packed, one field for the state and one per dimension: taking thirty of them apart
-- as text would cost more than all the arithmetic.

local NUMBERS, PARTS = '<ddddddddddddd', '<dddddddddd'

local s, names, dims = {}, {}, {}

local function unpacked(packed)
    s.born, s.clock, s.starts, s.speed, s.cut, s.cut_at, s.refusals, s.refused_at, s.probing,
        s.counted_from, s.sent, s.strikes, s.stop_until = struct.unpack(NUMBERS, packed)
end

local function fetch()
    local wanted = {'epoch', 'numbers'}
    for i, name in ipairs(names) do wanted[i + 2] = ':' .. name end
    local found = redis.call('HMGET', STATE, unpack(wanted))
    s.epoch = found[1] or nonce
    s.is_new = not found[1]
    if s.is_new then
        s.born, s.clock, s.starts, s.speed, s.cut, s.cut_at = now, 0, now, 1, 1, now
        s.refusals, s.refused_at, s.probing = 0, 0, 0
        s.counted_from, s.sent, s.strikes, s.stop_until = now, 0, 0, 0
    else
        unpacked(found[2])
    end
    for i, name in ipairs(names) do
        local d
        if found[i + 2] then
            d = {}
            d.tat, d.rate, d.stated, d.foreign, d.left, d.most, d.stated_at, d.use, d.low, d.high =
                struct.unpack(PARTS, found[i + 2])
            -- What is no number: no request has stood there yet.
            if d.tat ~= d.tat then d.tat = nil end
        else
            d = {rate = 0, stated = 0, foreign = 0, left = 1, most = 0, stated_at = 0, use = 0, low = 0,
                high = 0}
        end
        dims[name] = d
    end
end

local function load(first)
    for i = first, #ARGV, 4 do names[#names + 1] = ARGV[i] end
    fetch()
    for i, name in ipairs(names) do
        local d, word = dims[name], first + 4 * (i - 1)
        d.amount, d.a, d.b = tonumber(ARGV[word + 1]), tonumber(ARGV[word + 2]),
            tonumber(ARGV[word + 3])
    end
end

local function save()
    local changed = {'numbers', struct.pack(NUMBERS, s.born, s.clock, s.starts, s.speed, s.cut,
        s.cut_at, s.refusals, s.refused_at, s.probing, s.counted_from, s.sent, s.strikes,
        s.stop_until)}
    for _, name in ipairs(names) do
        local d = dims[name]
        changed[#changed + 1] = ':' .. name
        changed[#changed + 1] = struct.pack(PARTS, d.tat or 0 / 0, d.rate, d.stated, d.foreign,
            d.left, d.most, d.stated_at, d.use, d.low, d.high)
    end
    if s.is_new then
        changed[#changed + 1] = 'epoch'
        changed[#changed + 1] = s.epoch
    end
    redis.call('HSET', STATE, unpack(changed))
    redis.call('PEXPIRE', STATE, KEEP_MS)
end

-- Use of the last minute -------------------------------------------------------------------------

local function forget(name)
    local d, slot = dims[name], math.floor(now / SLICE)
    for old = d.low, math.min(slot - SLICES, d.high) do
        local amount = redis.call('HGET', USE, name .. ':' .. old)
        if amount then
            d.use = d.use - tonumber(amount)
            redis.call('HDEL', USE, name .. ':' .. old)
        end
    end
    d.low = math.max(d.low, slot - SLICES + 1)
    if d.high < d.low then d.use = 0 end
    return slot
end

local function use_of(name)
    local d, slot, sum = dims[name], math.floor(now / SLICE), 0
    for each = math.max(d.low, slot - SLICES + 1), d.high do
        sum = sum + tonumber(redis.call('HGET', USE, name .. ':' .. each) or 0)
    end
    return sum
end

local function used(name, amount)
    if amount == 0 then return end
    local d, slot = dims[name], forget(name)
    redis.call('HINCRBYFLOAT', USE, name .. ':' .. slot, text(amount))
    if slot > d.high then redis.call('PEXPIRE', USE, KEEP_MS) end
    d.use, d.high = d.use + amount, math.max(d.high, slot)
end

-- GCRA -------------------------------------------------------------------------------------------

local function clock() return s.clock + math.max(0, now - s.starts) * s.speed end

local function wait_for(at)
    return math.max(0, (at - clock()) / s.speed) + math.max(0, s.starts - now)
end

local function factor() return math.min(1, s.cut + (now - s.cut_at) * RECOVERY) end

local function emission_interval(d) return s.speed * MINUTE / d.rate end

local function target_rate(d, share)
    local known = d.a
    if d.stated > 0 and (known <= 0 or (d.stated < known and d.stated >= SANE_SHARE * known)) then
        known = d.stated
    end
    if known <= 0 then return 0 end
    local ours = 1 - d.foreign
    if d.foreign > 0 and d.left < RESERVE then ours = ours * (0.5 + 0.5 * d.left / RESERVE) end
    return known * share * ours
end

local function retune(target)
    local share, from, head = factor() * target, clock(), 0
    for _, name in ipairs(names) do head = math.max(head, dims[name].tat or 0) end
    local close = math.max(from, head - LAG * s.speed / 2)
    local binding, steady, needed = {}, true, 0
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.stated <= 0 and d.b > 0 then d.stated = d.b end
        local rate = target_rate(d, share)
        if d.tat and d.tat > close and d.rate > 0 and rate > 0 then
            local ratio = rate / d.rate
            binding[d] = ratio
            steady = steady and ratio == 1
            needed = math.max(needed, (d.tat - from) / ratio)
        end
        d.rate = rate
    end
    if steady then return end
    local change = (head - from) / needed
    s.clock, s.starts = from, math.max(s.starts, now)
    s.speed = s.speed * change
    for d, ratio in pairs(binding) do d.tat = from + (d.tat - from) * change / ratio end
end

local function count_anew() s.counted_from, s.sent, s.strikes = now, 0, 0 end

local function send()
    for _, name in ipairs(names) do used(name, dims[name].amount) end
    if now - s.counted_from > STRIKE_TIME then count_anew() end
    s.sent = s.sent + 1
    if s.probing == 1 then s.clock, s.starts = clock(), now + PROBE end
end

local function give_back(sent)
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.tat and d.rate > 0 then d.tat = d.tat - d.amount * emission_interval(d) end
        if sent then used(name, -d.amount) end
    end
end

local function withdraw(at)
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.rate > 0 and math.abs((d.tat or 0) - at - d.amount * emission_interval(d)) <= NEAR then
            return give_back(false)
        end
    end
end

local function foreign_use(name, d)
    forget(name)
    local foreign = (d.b - d.use) / d.a - TOLERANCE
    local weight = math.min(1, math.max(0, now - d.stated_at) / FOREIGN_TAU)
    d.foreign = d.foreign + weight * (math.min(0.9, math.max(0, foreign)) - d.foreign)
    d.stated_at = now
end

local function read_headers()
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.a > 0 then
            d.stated = d.a
            if d.b >= 0 then
                d.left = math.max(0, 1 - d.b / d.a)
                d.most = math.max(d.most, d.left)
                if d.most >= PLAUSIBLE then foreign_use(name, d) end
            end
        end
    end
end

local function strike()
    if now - s.counted_from > STRIKE_TIME then count_anew() end
    s.strikes = s.strikes + 1
    if s.strikes >= STRIKES and s.strikes >= STRIKE_SHARE * s.sent then
        s.cut, s.cut_at = math.max(SLOWEST, factor() * CUT), now
        count_anew()
    end
end

local function lead()
    local head
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.rate > 0 and (not head or (d.tat or 0) > (head.tat or 0)) then head = d end
    end
    return head and head.amount * emission_interval(head) or 0
end

local function penalize(admitted, asked, jitter, why, by)
    for _, name in ipairs(names) do
        local d = dims[name]
        used(name, -d.amount)
        if d.left < RESERVE and now - s.born >= MINUTE then d.most = math.max(d.most, PLAUSIBLE) end
    end
    local pause = math.max(0, asked * SECOND)
    if admitted > s.refused_at then
        s.clock, s.starts = clock() + lead(), math.max(s.starts, now)
        s.refusals, s.refused_at = s.refusals + 1, now
        strike()
        local grown = s.refusals - (asked >= 0 and 3 or 1)
        if grown >= 0 then
            pause = math.max(pause, math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ^ math.min(grown, 10)))
        end
        s.probing = s.refusals >= 2 and 1 or 0
    end
    pause = pause + jitter * math.min(0.1 * pause, 0.5 * SECOND)
    if now + pause > s.starts then
        s.clock, s.starts = clock(), now + pause
        redis.call('HSET', STATE, 'why', why, 'by', by)
    end
    return math.max(0, s.starts - now)
end

local function stopped()
    if now >= s.stop_until then return nil end
    local words = redis.call('HMGET', STATE, 'stop_code', 'stop_reason')
    return {'stop', words[1] or '', words[2] or ''}
end

-- Semaphore: slots for requests ------------------------------------------------------------------

local function hand_over(slots)
    redis.call('ZREMRANGEBYSCORE', TAKEN, '-inf', text(now))
    while redis.call('ZCARD', TAKEN) < slots do
        local holder = redis.call('ZRANGE', QUEUE, 0, 0)[1]
        if not holder then return end
        local heard = tonumber(redis.call('ZSCORE', HEARD, holder) or '0')
        redis.call('ZREM', QUEUE, holder)
        redis.call('ZREM', HEARD, holder)
        if now - heard <= SILENT then
            redis.call('ZADD', TAKEN, text(now + TAKE_UP), holder)
            redis.call('RPUSH', STATE .. ':wake:' .. holder, '1')
            redis.call('PEXPIRE', STATE .. ':wake:' .. holder, 10000)
        end
    end
end

local function acquire(holder, slots, lease)
    if not redis.call('ZSCORE', TAKEN, holder) then
        if not redis.call('ZSCORE', QUEUE, holder) then
            redis.call('ZADD', QUEUE, redis.call('HINCRBY', STATE, 'order', 1), holder)
        end
        redis.call('ZADD', HEARD, text(now), holder)
        hand_over(slots)
    end
    if not redis.call('ZSCORE', TAKEN, holder) then return {'wait'} end
    redis.call('ZADD', TAKEN, text(now + lease), holder)
    redis.call('DEL', STATE .. ':wake:' .. holder)
    for _, each in ipairs({TAKEN, QUEUE, HEARD}) do redis.call('PEXPIRE', each, KEEP_MS) end
    return {'in'}
end

-- Operations -------------------------------------------------------------------------------------

local operations = {}

function operations.reserve()
    load(6)
    local halt = stopped()
    if halt then return halt end
    retune(tonumber(ARGV[4]))
    local from, head, is_limited = clock(), nil, false
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.rate > 0 then
            is_limited = true
            d.tat = d.tat or from
            head = math.max(head or d.tat, d.tat)
        end
    end
    head = head or from
    local idle = math.max(0, from - BURST * s.speed - head)
    local tat = math.max(from, head + idle)
    local wait = wait_for(tat)
    if wait > tonumber(ARGV[5]) * SECOND then
        save()
        return {'too_long', text(wait)}
    end
    local answer = {'reserved', text(wait <= NEAR and 0 or wait), text(tat), s.epoch, text(now),
        is_limited and '1' or '0'}
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.rate > 0 then
            d.tat = math.max(d.tat + idle, tat - LAG * s.speed) + d.amount * emission_interval(d)
        end
        answer[#answer + 1] = text(d.stated)
    end
    if wait <= NEAR then send() end
    save()
    -- One word is read faster than eight.
    return table.concat(answer, ' ')
end

-- The epoch of the reservation, then its arrival time.
function operations.confirm()
    load(6)
    if s.epoch ~= ARGV[4] then return {'lost'} end
    local halt = stopped()
    if halt then
        withdraw(tonumber(ARGV[5]))
        save()
        return halt
    end
    local wait = wait_for(tonumber(ARGV[5]))
    if wait > NEAR then return {'reserved', text(wait), text(now)} end
    send()
    save()
    return {'reserved', '0', text(now)}
end

-- The epoch of the reservation, its arrival time, then whether the request had been admitted.
function operations.refund()
    load(7)
    if s.epoch == ARGV[4] then
        if ARGV[6] == '1' then give_back(true) else withdraw(tonumber(ARGV[5])) end
        save()
    end
    return {'ok'}
end

-- The epoch, then when the request was admitted.
function operations.settle()
    load(6)
    if s.epoch == ARGV[4] then
        give_back(true)
        if tonumber(ARGV[5]) > s.refused_at then
            s.refusals = 0
            if s.probing == 1 then s.probing, s.starts = 0, math.min(s.starts, now) end
        end
    end
    read_headers()
    save()
    return {'ok'}
end

-- The epoch, when the request was admitted, the seconds asked for, jitter, why and by whom.
function operations.penalize()
    load(10)
    read_headers()
    if s.epoch ~= ARGV[4] then for _, d in pairs(dims) do d.amount = 0 end end
    local pause = penalize(tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9])
    save()
    return {'paused', text(pause)}
end

-- The code, the reason, by whom.
function operations.stop()
    load(7)
    s.stop_until = now + STOP
    redis.call('HSET', STATE, 'stop_code', ARGV[4], 'stop_reason', ARGV[5], 'stop_by', ARGV[6])
    save()
    return {'ok'}
end

function operations.resume()
    load(4)
    if not s.is_new then
        s.stop_until, s.refusals, s.probing = 0, 0, 0
        s.starts = math.min(s.starts, now)
        save()
    end
    return {'ok'}
end

function operations.clock_state()
    load(4)
    if s.is_new then return {'', '0', '1', '0'} end
    local answer = {s.epoch, text(clock()), text(s.speed), text(math.max(0, s.starts - now))}
    for _, word in ipairs(stopped() or {}) do answer[#answer + 1] = word end
    return answer
end

-- The holder, the slots, the microseconds after which a slot comes back by itself.
function operations.acquire()
    return acquire(ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]))
end

function operations.release()
    redis.call('ZREM', TAKEN, ARGV[4])
    redis.call('ZREM', QUEUE, ARGV[4])
    redis.call('ZREM', HEARD, ARGV[4])
    hand_over(tonumber(ARGV[5]))
    return {'ok'}
end

-- What a person may ask: the state, then six words per dimension. Nothing is changed.
function operations.snapshot()
    local flat, told = redis.call('HGETALL', STATE), {}
    for i = 1, #flat, 2 do
        told[flat[i]] = flat[i + 1]
        if flat[i]:sub(1, 1) == ':' then names[#names + 1] = flat[i]:sub(2) end
    end
    table.sort(names)
    fetch()
    if s.is_new then return {} end
    redis.call('ZREMRANGEBYSCORE', TAKEN, '-inf', text(now))
    local stop = stopped() or {'', '', ''}
    local answer = {text(math.max(0, s.starts - now)), told.why or '', told.by or '',
        text(factor()), redis.call('ZCARD', TAKEN), redis.call('ZCARD', QUEUE),
        stop[1], stop[2], stop[3], told.stop_by or ''}
    for _, name in ipairs(names) do
        local d = dims[name]
        for _, word in ipairs({name, text(d.stated), text(d.rate), text(use_of(name)),
            text(wait_for(d.tat or 0)), text(d.foreign)}) do
            answer[#answer + 1] = word
        end
    end
    return answer
end

return operations[op]()
