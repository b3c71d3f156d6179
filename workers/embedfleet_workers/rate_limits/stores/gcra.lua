-- GCRA: the state of one rate limit in one hash, every operation in one round trip, by the server's
-- clock. `gcra.py` and `learning.py` say what each step is for; a test holds them to the same
-- answers. Names in capitals, and what stands behind `s.` and `d.`, are in `gcra_script.py`.
--
-- KEYS: the state of the limit; where slots are meant, also what belongs to them (`OF_SLOTS`).
-- ARGV: operation; microseconds ('' = the server's clock, tests bring their own); a name for a new
--       state; what the operation needs; last, two words per dimension: its name, and four packed
--       numbers: an amount, and three more that depend on the operation.

local op, nonce = ARGV[1], ARGV[3]
local STATE = KEYS[1]
local now = tonumber(ARGV[2])
if now == nil then
    local time = redis.call('TIME')
    now = tonumber(time[1]) * SECOND + tonumber(time[2])
end

local function text(number) return number == 0 and '0' or string.format('%.17g', number) end

-- State ------------------------------------------------------------------------------------------
-- Numbers are packed, one field for the state, which its name follows, and one per dimension:
-- taking thirty of them apart as text would cost more than all the arithmetic.

local s, epoch, is_new
-- Those that are asked for. How large a request may be depends on two, whatever is counted.
local dims, tokens, requests = {}, nil, nil

local function clock() return s.clock + math.max(0, now - s.starts) * s.speed end

local function within(least, number, most) return number >= least and number <= most end

-- Anybody may have written what stands here, or the server's clock was set back. What cannot be is
-- as good as lost. No comparison holds for what is no number.
local function are_sane(numbers, moments, count)
    for i = 1, moments do
        if not within(0, numbers[i], now + SLICE) then return false end
    end
    for i = moments + 1, count do
        if not within(-LARGEST, numbers[i], LARGEST) then return false end
    end
    return true
end

local function is_state(packed)
    if not packed or #packed <= STATE_SIZE then return false end
    s, epoch = {struct.unpack(STATE_FORMAT, packed)}, packed:sub(STATE_SIZE + 1)
    return are_sane(s, STATE_MOMENTS, STATE_NUMBERS) and s.starts <= now + LONGEST_BELIEVED
        and within(SLOWEST_CLOCK, s.speed, FASTEST_CLOCK)
        and within(0, s.clock, s.speed * OLDEST_CLOCK)
        and within(SLOWEST, s.cut, 1) and within(0, s.slack, MOST_SLACK)
        and epoch:find('^%w+%.?%w*$')
end

local function make_state()
    redis.call('DEL', STATE)
    s, epoch, is_new = {struct.unpack(STATE_FORMAT, ('\0'):rep(STATE_SIZE))}, nonce, true
    s.born, s.cut_at, s.counted_from, s.starts, s.speed, s.cut = now, now, now, now, 1, 1
end

local function dimension(packed, given)
    local d
    if packed and #packed == PARTS_SIZE then
        d = {struct.unpack(DIMENSION_FORMAT, packed .. given)}
        if are_sane(d, MOMENTS, PARTS)
            and within(0, d.foreign, MOST_FOREIGN) and within(0, d.left, 1)
            and (d.stated == 0 or within(1, d.stated, MOST_PLAUSIBLE))
            and (d.learnt == 0 or d.learnt >= LEAST_LEARNT) then return d end
    end
    d = {struct.unpack(DIMENSION_FORMAT, ('\0'):rep(PARTS_SIZE) .. given)}
    d.tat, d.left = NOWHERE, 1
    return d
end

-- What is not among the first `count` names is looked at, and neither counted nor changed.
local function fetch(names, given, count)
    local wanted = {'state'}
    for i = 1, #names do wanted[i + 1] = '@' .. names[i] end
    local found = redis.call('HMGET', STATE, unpack(wanted))
    if not is_state(found[1]) then make_state() end
    for i = 1, #names do
        local d = dimension(not is_new and found[i + 1], given[i] or ('\0'):rep(GIVEN_SIZE))
        d.name = names[i]
        if i <= count then dims[i] = d end
        if names[i] == 'tokens' then tokens = d elseif names[i] == 'requests' then requests = d end
    end
end

local function load(first)
    local names, given, others = {}, {}, {tokens = true, requests = true}
    for i = first, #ARGV, 2 do
        names[#names + 1], given[#given + 1], others[ARGV[i]] = ARGV[i], ARGV[i + 1], nil
    end
    local count = #names
    for name in pairs(others) do names[#names + 1] = name end
    fetch(names, given, count)
end

local function save()
    local is_to_keep = now - s.kept_at > MINUTE
    if is_to_keep then s.kept_at = now end
    local changed = {'state', struct.pack(STATE_FORMAT, unpack(s, 1, STATE_NUMBERS)) .. epoch}
    for i, d in ipairs(dims) do
        changed[2 * i + 1] = '@' .. d.name
        changed[2 * i + 2] = struct.pack(PARTS_FORMAT, unpack(d, 1, PARTS))
    end
    redis.call('HSET', STATE, unpack(changed))
    if is_to_keep then redis.call('PEXPIRE', STATE, KEEP_MS) end
end

local operations = {}

-- The last minute: what was sent, and what was answered -------------------------------------------

local function ring_of(d, window) return (window == USED and 'used:' or 'served:') .. d.name end

-- The slices as they are now, and their sum.
local function turned(d, window)
    local slot, last = math.floor(now / SLICE), math.floor(d[window] / SLICE)
    local packed = slot - last < SLICES and redis.call('HMGET', STATE, ring_of(d, window))[1]
    local old, ring, sum = {}, {}, 0
    if packed and #packed == RING_SIZE then old = {struct.unpack(RING_FORMAT, packed)} end
    old[last % SLICES + 1] = d[window + 4]
    for each = slot - SLICES + 1, slot do
        local amount = each <= last and old[each % SLICES + 1] or 0
        if not within(-LARGEST, amount, LARGEST) then amount = 0 end
        ring[each % SLICES + 1], sum = amount, sum + amount
    end
    return ring, sum
end

local function sum_of(d, window)
    if now - d[window] < SLICE then return d[window + 2] end
    local _, sum = turned(d, window)
    return sum
end

local function used(d, window, amount)
    if amount == 0 then return end
    if now - d[window] >= SLICE then
        local ring, sum = turned(d, window)
        local packed = struct.pack(RING_FORMAT, unpack(ring, 1, SLICES))
        redis.call('HSET', STATE, ring_of(d, window), packed)
        d[window], d[window + 2], d[window + 4] = math.floor(now / SLICE) * SLICE, sum, 0
    end
    d[window + 2], d[window + 4] = d[window + 2] + amount, d[window + 4] + amount
end

-- GCRA --------------------------------------------------------------------------------------------

local function grow(d)
    if d.known == 1 or d.learnt <= 0 or now - d.grown_at < STEP then return end
    local after, before = (now - d.cut_at) / MINUTE, (d.grown_at - d.cut_at) / MINUTE
    local growth = math.min(LARGEST_STEP, math.exp(GROWTH * (after ^ 3 - before ^ 3)))
    d.learnt = math.min(MOST_PLAUSIBLE, d.learnt * growth)
    d.grown_at = now
end

local function largest()
    if tokens.known == 1 or tokens.learnt <= 0 then return s.size end
    local most = ROOM * tokens.learnt / math.max(1, math.min(PER_MINUTE, requests.peak))
    return s.size > 0 and math.min(s.size, most) or most
end

local function unused() return math.max(0, s.slack - TIGHTEN * (now - s.slack_at)) end

local function wait_for(at)
    return math.max(0, (at - clock()) / s.speed) + math.max(0, s.starts - now)
end

local function factor() return math.min(1, s.cut + (now - s.cut_at) * RECOVERY) end

local function emission_interval(d) return s.speed * MINUTE / d.rate end

local function known_limit(d)
    if d.stated > 0 and (d.a <= 0 or (d.stated < d.a and d.stated >= PLAUSIBLE_SHARE * d.a)) then
        return d.stated
    end
    return d.a
end

local function know()
    local found = false
    for _, d in ipairs(dims) do
        if d.stated <= 0 and d.b > 0 then d.stated = d.b end
        local before = d.known
        d.known = known_limit(d) > 0 and 1 or 0
        found = found or d.known > before
    end
    if not found then return end
    s.size, s.ceiling = 0, 0
    for _, d in ipairs(dims) do
        if d.known == 0 then d.learnt = 0 end
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
    for _, d in ipairs(dims) do
        d.tat = math.min(d.tat, from + FAR * s.speed)
        head = math.max(head, d.tat)
    end
    local close = math.max(from, head - LAG * s.speed / 2)
    local binding, steady, needed = {}, true, 0
    for _, d in ipairs(dims) do
        grow(d)
        local rate = target_rate(d, share)
        if d.tat > close and d.rate > 0 and rate > 0 then
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
    for _, d in ipairs(dims) do used(d, USED, d.amount) end
    if now - s.counted_from > STRIKE_TIME then count_anew() end
    s.sent = s.sent + 1
    if s.probing == 1 or s.alone == 1 then s.clock, s.starts = clock(), now + PROBE end
end

local function stopped()
    -- Nothing beyond is believed: whoever wrote it, a stop is a hint.
    if now >= s.stop_until or s.stop_until > now + STOP then return nil end
    local words = redis.call('HMGET', STATE, 'stop_code', 'stop_reason')
    return {'stop', words[1] or '', words[2] or ''}
end

function operations.reserve()
    load(6)
    local halt = stopped()
    if halt then return halt end
    retune(tonumber(ARGV[4]))
    local from, head, is_limited = clock(), nil, false
    for _, d in ipairs(dims) do
        if d.rate > 0 then
            is_limited = true
            if d.tat == NOWHERE then
                local counts = d.known == 1 and s.told == 0
                local sent = counts and sum_of(d, USED) * emission_interval(d) or 0
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
    local answer = {wait <= NEAR and 0 or wait, tat, now, is_limited and 1 or 0, largest()}
    for _, d in ipairs(dims) do
        if d.rate > 0 then
            d.tat = math.max(d.tat + idle, tat - LAG * s.speed) + d.amount * emission_interval(d)
        end
        answer[#answer + 1] = d.stated
        answer[#answer + 1] = d.known == 1 and 0 or d.learnt
    end
    if wait <= NEAR then send() end
    save()
    return struct.pack('<' .. ('d'):rep(#answer), unpack(answer)) .. epoch
end

-- Every call makes the functions anew that come before its own: what is asked most comes first.
if operations[op] then return operations[op]() end

-- Answers -----------------------------------------------------------------------------------------

local function give_back(sent)
    for _, d in ipairs(dims) do
        if d.tat > NOWHERE and d.rate > 0 then d.tat = d.tat - d.amount * emission_interval(d) end
        if sent then used(d, USED, -d.amount) end
    end
end

local function withdraw(at)
    for _, d in ipairs(dims) do
        if d.rate > 0 and math.abs(d.tat - at - d.amount * emission_interval(d)) <= NEAR then
            return give_back(false)
        end
    end
end

local function served(d, cost)
    used(d, SERVED, cost)
    if d.learnt > 0 and now - d.cut_at < LATE then
        d.peak = math.max(d.peak, sum_of(d, SERVED))
        if d.before <= 0 then d.learnt = math.max(d.learnt, sum_of(d, SERVED)) end
    end
end

-- `d.c` is what the request cost, 0 where its answer says nothing.
local function learn_from_answer()
    s.answered = 1
    for _, d in ipairs(dims) do
        if d.c > 0 and d.known == 0 then served(d, d.c) end
    end
    local cost = tokens.c
    s.fits = math.max(s.fits, cost)
    if cost <= 0 or 2 * cost < s.size then return end
    if s.size > 0 or tokens.known == 0 then
        local size = 2 * math.max(s.size, FIRST_TOKENS / 2, cost)
        local held = s.ceiling > 0 and now < s.ceiling_at + CEILING
        s.size = held and math.min(size, math.max(s.size, s.ceiling / 2)) or size
    end
end

local function foreign_use(d)
    local foreign = (d.b - sum_of(d, USED)) / d.a - TOLERANCE
    local weight = math.min(1, math.max(0, now - d.stated_at) / FOREIGN_TAU)
    d.foreign = d.foreign + weight * (math.min(MOST_FOREIGN, math.max(0, foreign)) - d.foreign)
    d.stated_at = now
end

local function hear()
    if s.alone == 1 then s.alone, epoch = 0, nonce end
end

local function read_headers()
    local said = false
    for _, d in ipairs(dims) do
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
    if epoch ~= ARGV[4] then return {'lost'} end
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
    if epoch == ARGV[4] then
        if ARGV[6] == '1' then give_back(true) else withdraw(tonumber(ARGV[5])) end
        save()
    end
    return {'ok'}
end

-- The epoch, then when the request was admitted.
function operations.settle()
    load(6)
    if epoch == ARGV[4] then
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

local function cut(d, cost)
    local answered = sum_of(d, SERVED)
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

local function is_too_large(cost)
    if cost <= s.fits or sum_of(tokens, SERVED) >= UNUSED * tokens.learnt then return false end
    local before = s.suspect
    s.suspect = cost
    return math.abs(cost - before) <= ALIKE * before
end

local function doubts()
    s.doubts = math.max(0, s.doubts - (now - s.doubted_at) / FORGET) + 1
    s.doubted_at = now
    if s.doubts < DOUBTS then return false end
    s.doubts = 0
    return true
end

local function shrink(cost)
    local smallest = requests.rate > 0 and tokens.rate / requests.rate or 0
    local smaller = math.max(smallest, cost / 2)
    if cost > 0 and smaller > 0 and smaller < (s.size > 0 and s.size or cost) then
        s.size, s.ceiling, s.ceiling_at = smaller, 2 * smaller, now
    else
        s.slack, s.slack_at = math.min(MOST_SLACK, unused() + SLACK), now
    end
end

local function learn_from_first(cost)
    if s.answered == 0 then return end
    local unknown, is_named = {}, false
    for _, d in ipairs(dims) do is_named = is_named or d.c > 0 end
    for _, d in ipairs(dims) do
        if d.known == 0 and (d.c > 0 or not is_named) then unknown[#unknown + 1] = d end
    end
    if is_named and tokens.c == 0 then cost = 0 end
    if #unknown < #dims and not doubts() then return end
    if #unknown == 0 then return shrink(cost) end
    local too_large = is_too_large(cost)
    if too_large then s.size, s.ceiling, s.ceiling_at = LEFT * cost, 2 * LEFT * cost, now end
    for _, d in ipairs(unknown) do
        if not too_large then cut(d, d.amount) elseif d == requests then d.learnt = d.learnt * 2 end
    end
end

local function learn_from_refusal(told)
    local cost, was_told = tokens.amount, s.told
    local quiet = sum_of(tokens, USED) <= 0 and now - s.born >= MINUTE
    s.told = told and 1 or 0
    if s.refusals == 0 and not quiet then return learn_from_first(cost) end
    if cost <= 0 or not (s.refusals == 1 or quiet) then return end
    if s.refusals <= 1 and (quiet or was_told == 1) and tokens.known == 0 then
        s.ceiling, s.ceiling_at = cost, now
        for _, d in ipairs(dims) do uncut(d) end
    end
    s.size = math.max(1, math.min(cost, s.size > 0 and s.size or cost) / 2)
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
    for _, d in ipairs(dims) do
        if d.rate > 0 and (not head or d.tat > head.tat) then head = d end
    end
    return head and head.amount * emission_interval(head) or 0
end

local function penalize(admitted, asked, jitter, why, by)
    for _, d in ipairs(dims) do
        used(d, USED, -d.amount)
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
    if epoch ~= ARGV[4] then for _, d in ipairs(dims) do d.amount = 0 end end
    read_headers()
    local at, asked, jitter = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
    local pause = penalize(at, asked, jitter, ARGV[8], ARGV[9])
    save()
    return {'paused', text(pause)}
end

-- Semaphore: slots for requests -------------------------------------------------------------------

-- Requests under way, who waits for a slot among them, and when each of these was last heard of.
-- Whoever is next has a list beside the state, which no caller can name before: on a sharded server
-- it has to be where the state is, so there the prefix of keys has to have a hash tag.
local TAKEN, QUEUE, HEARD = KEYS[2], KEYS[3], KEYS[4]
-- A slot that was handed over is taken up at once, or was handed to the dead.

local function hand_over(slots)
    redis.call('ZREMRANGEBYSCORE', TAKEN, '-inf', text(now))
    redis.call('ZREMRANGEBYSCORE', TAKEN, text(now + LONGEST_LEASE), '+inf')
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

local function acquire(holder, slots, lease, head_start)
    if not redis.call('ZSCORE', TAKEN, holder) then
        if not redis.call('ZSCORE', QUEUE, holder) then
            redis.call('ZADD', QUEUE, text(now - head_start), holder)
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

-- The holder, the slots, the microseconds after which a slot comes back by itself, and those that the
-- holder counts as if it had come earlier.
function operations.acquire()
    return acquire(ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
end

function operations.release()
    redis.call('ZREM', TAKEN, ARGV[4])
    redis.call('ZREM', QUEUE, ARGV[4])
    redis.call('ZREM', HEARD, ARGV[4])
    hand_over(tonumber(ARGV[5]))
    return {'ok'}
end

-- What people and those who wait ask --------------------------------------------------------------

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
    if not is_new then
        s.stop_until, s.refusals, s.probing = 0, 0, 0
        s.starts = math.min(s.starts, now)
        save()
    end
    return {'ok'}
end

function operations.clock_state()
    load(4)
    if is_new then return {'', '0', '1', '0', '0', ''} end
    local known = {}
    for i, d in ipairs(dims) do
        known[i] = text(d.stated) .. ' ' .. text(d.known == 1 and 0 or d.learnt)
    end
    local answer = {epoch, text(clock()), text(s.speed), text(math.max(0, s.starts - now)),
        text(largest()), table.concat(known, ' ')}
    for _, word in ipairs(stopped() or {}) do answer[#answer + 1] = word end
    return answer
end

-- What a person may ask: the state, then seven words per dimension. Nothing is changed.
function operations.snapshot()
    local flat, told, names = redis.call('HGETALL', STATE), {}, {}
    for i = 1, #flat, 2 do
        told[flat[i]] = flat[i + 1]
        if flat[i]:sub(1, 1) == '@' then names[#names + 1] = flat[i]:sub(2) end
    end
    table.sort(names)
    local count = #names
    for _, name in ipairs({'tokens', 'requests'}) do names[#names + 1] = name end
    fetch(names, {}, count)
    if is_new then return {} end
    redis.call('ZREMRANGEBYSCORE', TAKEN, '-inf', text(now))
    local stop = stopped() or {'', '', ''}
    local answer = {text(math.max(0, s.starts - now)), told.why or '', told.by or '',
        text(factor()), redis.call('ZCARD', TAKEN), redis.call('ZCARD', QUEUE),
        stop[1], stop[2], stop[3], told.stop_by or '', text(largest())}
    for _, d in ipairs(dims) do
        for _, word in ipairs({d.name, text(d.stated), text(d.rate), text(sum_of(d, USED)),
            text(wait_for(d.tat)), text(d.foreign), text(d.known == 1 and 0 or d.learnt)}) do
            answer[#answer + 1] = word
        end
    end
    return answer
end

return operations[op]()
