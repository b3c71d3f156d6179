-- GCRA: the state of one rate limit in one hash, every operation in one round trip, by the server's
-- clock. `gcra.py` and `learning.py` say what each step is for; a test holds them to the same answers.
--
-- KEYS: the state of the limit; what belongs to it has its name and a suffix.
-- ARGV: operation; microseconds ('' = the server's clock, tests bring their own); a name for a new
--       state; what the operation needs; last, five words per dimension: its name, an amount, and
--       three more that depend on the operation.

local SECOND, MINUTE = 1e6, 60e6
local NEAR, BURST, LAG, SLICE, SLICES = 3000, 0.25 * SECOND, 3 * SECOND, 2 * SECOND, 31
local SANE_SHARE, RESERVE, RECOVERY = 0.2, 0.04, 0.02 / (5 * SECOND)
local PROBE, STRIKE_TIME = 2 * SECOND, 10 * SECOND
local GROWTH, STEP, LARGEST_STEP, PER_MINUTE, ROOM = 0.012, 5 * SECOND, 1.5, 10, 1.25
local TIGHTEN = 0.02 / (5 * MINUTE)
-- The state outlives any wait, and a key that nobody uses any more goes.
local KEEP_MS = 3600 * 1000

local op, nonce = ARGV[1], ARGV[3]
local STATE, USE = KEYS[1], KEYS[1] .. ':use'
local now = tonumber(ARGV[2])
if now == nil then
    local time = redis.call('TIME')
    now = tonumber(time[1]) * SECOND + tonumber(time[2])
end

local function text(number) return number == 0 and '0' or string.format('%.17g', number) end

-- State ------------------------------------------------------------------------------------------
-- Numbers are packed, one field for the state and one per dimension: taking thirty of them apart
-- as text would cost more than all the arithmetic.

local NUMBERS, PARTS = '<' .. ('d'):rep(25), '<' .. ('d'):rep(20)

local s, names, dims = nil, {}, {}

-- Made whole: a table that grows field by field is laid out anew each time it doubles. What is not
-- given is as it is where nothing is known.
local function state(born, clock, starts, speed, cut, cut_at, refusals, refused_at, probing,
        counted_from, sent, strikes, stop_until, answered, alone, told, size, ceiling, ceiling_at,
        fits, suspect, doubts, doubted_at, slack, slack_at)
    return {born = born or now, clock = clock or 0, starts = starts or now, speed = speed or 1,
        cut = cut or 1, cut_at = cut_at or now, refusals = refusals or 0,
        refused_at = refused_at or 0, probing = probing or 0, counted_from = counted_from or now,
        sent = sent or 0, strikes = strikes or 0, stop_until = stop_until or 0,
        answered = answered or 0, alone = alone or 0, told = told or 0, size = size or 0,
        ceiling = ceiling or 0, ceiling_at = ceiling_at or 0, fits = fits or 0,
        suspect = suspect or 0, doubts = doubts or 0, doubted_at = doubted_at or 0,
        slack = slack or 0, slack_at = slack_at or 0, is_new = not born, epoch = nonce}
end

local function dimension(name, tat, rate, stated, foreign, left, most, stated_at, sum, low, high,
        known, learnt, peak, grown_at, cut_at, before, before_at, served_sum, served_low,
        served_high)
    -- What is no number: no request has stood there yet.
    if tat ~= tat then tat = nil end
    return {tat = tat, rate = rate or 0, stated = stated or 0, foreign = foreign or 0,
        left = left or 1, most = most or 0, stated_at = stated_at or 0, known = known or 0,
        learnt = learnt or 0, peak = peak or 0, grown_at = grown_at or 0, cut_at = cut_at or 0,
        before = before or 0, before_at = before_at or 0, amount = nil, a = nil, b = nil, c = nil,
        use = {name = name, sum = sum or 0, low = low or 0, high = high or 0},
        served = {name = name .. '!', sum = served_sum or 0, low = served_low or 0,
            high = served_high or 0}}
end

-- How large a request may be depends on two dimensions, whatever is counted. What `names` does not
-- have is looked at, and neither counted nor changed.
local function fetch()
    local wanted, looked_at = {'epoch', 'numbers'}, {tokens = true, requests = true}
    for _, name in ipairs(names) do
        wanted[#wanted + 1], looked_at[name] = ':' .. name, nil
    end
    for name in pairs(looked_at) do wanted[#wanted + 1] = ':' .. name end
    local found = redis.call('HMGET', STATE, unpack(wanted))
    -- What another version wrote is as good as lost.
    if found[1] and found[2] and #found[2] == struct.size(NUMBERS) then
        s = state(struct.unpack(NUMBERS, found[2]))
        s.epoch = found[1]
    else
        s = state()
    end
    for i = 3, #wanted do
        local name, packed = wanted[i]:sub(2), found[i]
        if packed and #packed == struct.size(PARTS) then
            dims[name] = dimension(name, struct.unpack(PARTS, packed))
        else
            dims[name] = dimension(name)
        end
    end
end

local function load(first)
    for i = first, #ARGV, 5 do names[#names + 1] = ARGV[i] end
    fetch()
    for i = first, #ARGV, 5 do
        local d = dims[ARGV[i]]
        d.amount, d.a, d.b, d.c = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]),
            tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
    end
end

local function save()
    local changed = {'numbers', struct.pack(NUMBERS, s.born, s.clock, s.starts, s.speed, s.cut,
        s.cut_at, s.refusals, s.refused_at, s.probing, s.counted_from, s.sent, s.strikes,
        s.stop_until, s.answered, s.alone, s.told, s.size, s.ceiling, s.ceiling_at, s.fits,
        s.suspect, s.doubts, s.doubted_at, s.slack, s.slack_at)}
    for _, name in ipairs(names) do
        local d = dims[name]
        changed[#changed + 1] = ':' .. name
        changed[#changed + 1] = struct.pack(PARTS, d.tat or 0 / 0, d.rate, d.stated, d.foreign,
            d.left, d.most, d.stated_at, d.use.sum, d.use.low, d.use.high, d.known, d.learnt,
            d.peak, d.grown_at, d.cut_at, d.before, d.before_at, d.served.sum, d.served.low,
            d.served.high)
    end
    if s.is_new or s.is_renamed then
        changed[#changed + 1] = 'epoch'
        changed[#changed + 1] = s.epoch
    end
    redis.call('HSET', STATE, unpack(changed))
    redis.call('PEXPIRE', STATE, KEEP_MS)
end

local operations = {}

-- Use of the last minute --------------------------------------------------------------------------

local function forget(window)
    local slot = math.floor(now / SLICE)
    for old = window.low, math.min(slot - SLICES, window.high) do
        local amount = redis.call('HGET', USE, window.name .. ':' .. old)
        if amount then
            window.sum = window.sum - tonumber(amount)
            redis.call('HDEL', USE, window.name .. ':' .. old)
        end
    end
    window.low = math.max(window.low, slot - SLICES + 1)
    if window.high < window.low then window.sum = 0 end
    return slot
end

local function sum_of(window)
    forget(window)
    return window.sum
end

local function used(window, amount)
    if amount == 0 then return end
    local slot = forget(window)
    redis.call('HINCRBYFLOAT', USE, window.name .. ':' .. slot, text(amount))
    if slot > window.high then redis.call('PEXPIRE', USE, KEEP_MS) end
    window.sum, window.high = window.sum + amount, math.max(window.high, slot)
end

-- GCRA --------------------------------------------------------------------------------------------

local function grow(d)
    if d.learnt <= 0 or now - d.grown_at < STEP then return end
    local after, before = (now - d.cut_at) / MINUTE, (d.grown_at - d.cut_at) / MINUTE
    d.learnt = d.learnt * math.min(LARGEST_STEP, math.exp(GROWTH * (after ^ 3 - before ^ 3)))
    d.grown_at = now
end

local function largest()
    local tokens = dims.tokens
    if tokens.known == 1 or tokens.learnt <= 0 then return s.size end
    local most = ROOM * tokens.learnt / math.max(1, math.min(PER_MINUTE, dims.requests.peak))
    return s.size > 0 and math.min(s.size, most) or most
end

local function unused() return math.max(0, s.slack - TIGHTEN * (now - s.slack_at)) end

local function clock() return s.clock + math.max(0, now - s.starts) * s.speed end

local function wait_for(at)
    return math.max(0, (at - clock()) / s.speed) + math.max(0, s.starts - now)
end

local function factor() return math.min(1, s.cut + (now - s.cut_at) * RECOVERY) end

local function emission_interval(d) return s.speed * MINUTE / d.rate end

local function known_limit(d)
    if d.stated > 0 and (d.a <= 0 or (d.stated < d.a and d.stated >= SANE_SHARE * d.a)) then
        return d.stated
    end
    return d.a
end

local function know()
    local is_new = false
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.stated <= 0 and d.b > 0 then d.stated = d.b end
        local before = d.known
        d.known = known_limit(d) > 0 and 1 or 0
        is_new = is_new or d.known > before
    end
    if not is_new then return end
    s.size, s.ceiling = 0, 0
    for _, name in ipairs(names) do
        if dims[name].known == 0 then dims[name].learnt = 0 end
    end
end

local function target_rate(d, share)
    if d.known == 0 then return d.learnt end
    local ours = 1 - d.foreign
    if d.foreign > 0 and d.left < RESERVE then ours = ours * (0.5 + 0.5 * d.left / RESERVE) end
    return known_limit(d) * share * ours
end

local function retune(target)
    know()
    local share, from, head = factor() * (1 - unused()) * target, clock(), 0
    for _, name in ipairs(names) do head = math.max(head, dims[name].tat or 0) end
    local close = math.max(from, head - LAG * s.speed / 2)
    local binding, steady, needed = {}, true, 0
    for _, name in ipairs(names) do
        local d = dims[name]
        grow(d)
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
    for _, name in ipairs(names) do used(dims[name].use, dims[name].amount) end
    if now - s.counted_from > STRIKE_TIME then count_anew() end
    s.sent = s.sent + 1
    if s.probing == 1 or s.alone == 1 then s.clock, s.starts = clock(), now + PROBE end
end

local function stopped()
    if now >= s.stop_until then return nil end
    local words = redis.call('HMGET', STATE, 'stop_code', 'stop_reason')
    return {'stop', words[1] or '', words[2] or ''}
end

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
            if not d.tat then
                local sent = d.known == 1 and sum_of(d.use) * emission_interval(d) or 0
                d.tat = from + math.min(sent, MINUTE * s.speed)
            end
            head = math.max(head or d.tat, d.tat)
        end
    end
    s.alone = (s.answered == 0 and not is_limited) and 1 or 0
    head = head or from
    local idle = math.max(0, from - BURST * s.speed - head)
    local tat = math.max(from, head + idle)
    local wait = wait_for(tat)
    if wait > tonumber(ARGV[5]) * SECOND then
        save()
        return {'too_long', text(wait)}
    end
    local answer = {'reserved', text(wait <= NEAR and 0 or wait), text(tat), s.epoch, text(now),
        is_limited and '1' or '0', text(largest())}
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.rate > 0 then
            d.tat = math.max(d.tat + idle, tat - LAG * s.speed) + d.amount * emission_interval(d)
        end
        answer[#answer + 1] = text(d.stated)
        answer[#answer + 1] = text(d.known == 1 and 0 or d.learnt)
    end
    if wait <= NEAR then send() end
    save()
    -- One word is read faster than eight.
    return table.concat(answer, ' ')
end

-- Every call makes the functions anew that come before its own: what is asked most comes first.
if operations[op] then return operations[op]() end

-- Answers -----------------------------------------------------------------------------------------

local TOLERANCE, FOREIGN_TAU, PLAUSIBLE = 0.02, 10 * SECOND, 0.25
local FIRST_TOKENS, CEILING, LATE = 1000, 10 * MINUTE, 5 * SECOND

local function give_back(sent)
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.tat and d.rate > 0 then d.tat = d.tat - d.amount * emission_interval(d) end
        if sent then used(d.use, -d.amount) end
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

local function served(d, cost)
    used(d.served, cost)
    if d.learnt > 0 and now - d.cut_at < LATE then
        d.peak = math.max(d.peak, sum_of(d.served))
        if d.before <= 0 then d.learnt = math.max(d.learnt, sum_of(d.served)) end
    end
end

-- `d.c` is what the request cost, 0 where its answer says nothing.
local function learn_from_answer()
    s.answered = 1
    for _, name in ipairs(names) do
        if dims[name].c > 0 and dims[name].known == 0 then served(dims[name], dims[name].c) end
    end
    local tokens = dims.tokens.c or 0
    s.fits = math.max(s.fits, tokens)
    if tokens <= 0 or 2 * tokens < s.size then return end
    if s.size > 0 or dims.tokens.known == 0 then
        local size = 2 * math.max(s.size, FIRST_TOKENS / 2, tokens)
        local held = s.ceiling > 0 and now < s.ceiling_at + CEILING
        s.size = held and math.min(size, math.max(s.size, s.ceiling / 2)) or size
    end
end

local function foreign_use(d)
    local foreign = (d.b - sum_of(d.use)) / d.a - TOLERANCE
    local weight = math.min(1, math.max(0, now - d.stated_at) / FOREIGN_TAU)
    d.foreign = d.foreign + weight * (math.min(0.9, math.max(0, foreign)) - d.foreign)
    d.stated_at = now
end

local function hear()
    if s.alone == 1 then s.alone, s.epoch, s.is_renamed = 0, nonce, true end
end

local function read_headers()
    local said = false
    for _, name in ipairs(names) do
        local d = dims[name]
        if d.a > 0 then
            said, d.stated = true, d.a
            if d.b >= 0 then
                d.left = math.max(0, 1 - d.b / d.a)
                d.most = math.max(d.most, d.left)
                if d.most >= PLAUSIBLE then foreign_use(d) end
            end
        end
    end
    if said then hear() end
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
        learn_from_answer()
        if tonumber(ARGV[5]) > s.refused_at then
            s.refusals = 0
            if s.probing == 1 or s.alone == 1 then s.starts = math.min(s.starts, now) end
            s.probing = 0
            hear()
        end
    end
    read_headers()
    save()
    return {'ok'}
end

if operations[op] then return operations[op]() end

-- What refusals teach -----------------------------------------------------------------------------

local STRIKES, STRIKE_SHARE, CUT, SLOWEST = 3, 0.1, 0.8, 0.05
local FIRST_PAUSE, LONGEST_PAUSE = 0.5 * SECOND, 15 * SECOND
local AFTER_REFUSAL, LEAST_LEFT, UNUSED, ALIKE, LEFT = 0.95, 0.7, 0.8, 0.1, 0.45
local DOUBTS, FORGET, SLACK, MOST_SLACK = 2.5, 60 * SECOND, 0.02, 0.2

local function cut(d, cost)
    local answered = sum_of(d.served)
    d.peak = math.max(d.peak, answered)
    d.before, d.before_at = d.learnt, d.cut_at
    if d.learnt > 0 then
        d.learnt = math.max(LEAST_LEFT * d.learnt, AFTER_REFUSAL * math.min(d.learnt, answered))
    else
        d.learnt = math.max(answered, cost)
    end
    d.grown_at, d.cut_at = now, now
end

local function uncut(d)
    if d.before > 0 then d.learnt, d.cut_at = math.max(d.learnt, d.before), d.before_at end
end

local function is_too_large(tokens)
    local d = dims.tokens
    if tokens <= s.fits or sum_of(d.served) >= UNUSED * d.learnt then return false end
    local before = s.suspect
    s.suspect = tokens
    return math.abs(tokens - before) <= ALIKE * before
end

local function doubts()
    s.doubts = math.max(0, s.doubts - (now - s.doubted_at) / FORGET) + 1
    s.doubted_at = now
    if s.doubts < DOUBTS then return false end
    s.doubts = 0
    return true
end

local function shrink(cost)
    local tokens, requests = dims.tokens, dims.requests
    local smallest = requests.rate > 0 and tokens.rate / requests.rate or 0
    local smaller = math.max(smallest, cost / 2)
    if smaller > 0 and smaller < (s.size > 0 and s.size or cost) then
        s.size, s.ceiling, s.ceiling_at = smaller, 2 * smaller, now
    else
        s.slack, s.slack_at = math.min(MOST_SLACK, unused() + SLACK), now
    end
end

local function learn_from_first(tokens)
    if s.answered == 0 then return end
    local unknown = 0
    for _, name in ipairs(names) do unknown = unknown + 1 - dims[name].known end
    if unknown < #names and not doubts() then return end
    if unknown == 0 then return shrink(tokens) end
    if is_too_large(tokens) then
        s.size, s.ceiling, s.ceiling_at = LEFT * tokens, 2 * LEFT * tokens, now
        local requests = dims.requests
        if requests.amount and requests.known == 0 then requests.learnt = requests.learnt * 2 end
        return
    end
    for _, name in ipairs(names) do
        if dims[name].known == 0 then cut(dims[name], dims[name].amount) end
    end
end

local function learn_from_refusal(told)
    local tokens, was_told = dims.tokens.amount or 0, s.told
    local quiet = sum_of(dims.tokens.use) <= 0 and now - s.born >= MINUTE
    s.told = told and 1 or 0
    if s.refusals == 0 and not quiet then return learn_from_first(tokens) end
    if tokens <= 0 or not (s.refusals == 1 or quiet) then return end
    if s.refusals <= 1 and (quiet or was_told == 1) and dims.tokens.known == 0 then
        s.ceiling, s.ceiling_at = tokens, now
        for _, name in ipairs(names) do uncut(dims[name]) end
    end
    s.size = math.max(1, math.min(tokens, s.size > 0 and s.size or tokens) / 2)
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
        used(d.use, -d.amount)
        if d.left < RESERVE and now - s.born >= MINUTE then d.most = math.max(d.most, PLAUSIBLE) end
    end
    local pause = math.max(0, asked * SECOND)
    if admitted > s.refused_at then
        if s.alone == 1 then s.starts = math.min(s.starts, now) end
        learn_from_refusal(asked >= 0)
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

-- The epoch, when the request was admitted, the seconds asked for, jitter, why and by whom.
function operations.penalize()
    load(10)
    if s.epoch ~= ARGV[4] then for _, d in pairs(dims) do d.amount = 0 end end
    read_headers()
    local pause = penalize(tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9])
    save()
    return {'paused', text(pause)}
end

-- Semaphore: slots for requests -------------------------------------------------------------------

-- Requests under way, who waits for a slot among them, and when each of these was last heard of.
local TAKEN, QUEUE, HEARD = KEYS[1] .. ':taken', KEYS[1] .. ':queue', KEYS[1] .. ':heard'
-- A slot that was handed over is taken up at once, or was handed to the dead.
local TAKE_UP, SILENT = 5 * SECOND, 3 * SECOND

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

-- What people and those who wait ask --------------------------------------------------------------

local STOP = 10 * SECOND

-- The same, and nothing is changed.
local function look_at(window)
    local slot, sum = math.floor(now / SLICE), 0
    for each = math.max(window.low, slot - SLICES + 1), window.high do
        sum = sum + tonumber(redis.call('HGET', USE, window.name .. ':' .. each) or 0)
    end
    return sum
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
    if s.is_new then return {'', '0', '1', '0', '0', ''} end
    local known = {}
    for i, name in ipairs(names) do
        local d = dims[name]
        known[i] = text(d.stated) .. ' ' .. text(d.known == 1 and 0 or d.learnt)
    end
    local answer = {s.epoch, text(clock()), text(s.speed), text(math.max(0, s.starts - now)),
        text(largest()), table.concat(known, ' ')}
    for _, word in ipairs(stopped() or {}) do answer[#answer + 1] = word end
    return answer
end

-- What a person may ask: the state, then seven words per dimension. Nothing is changed.
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
        stop[1], stop[2], stop[3], told.stop_by or '', text(largest())}
    for _, name in ipairs(names) do
        local d = dims[name]
        for _, word in ipairs({name, text(d.stated), text(d.rate), text(look_at(d.use)),
            text(wait_for(d.tat or 0)), text(d.foreign), text(d.known == 1 and 0 or d.learnt)}) do
            answer[#answer + 1] = word
        end
    end
    return answer
end

return operations[op]()
