-- Arguments: "histogram" or "percentiles", then one or more files that hold request bodies.
-- Prints one line of JSON when done: exact counts, no text to parse.

local histogram = false

function init(args)
  histogram = args[1] == "histogram"
  local bodies = {}
  for number = 2, #args do
    local file = assert(io.open(args[number], "rb"))
    bodies[#bodies + 1] = file:read("*a")
    file:close()
  end
  wrk.method = "POST"
  wrk.body = bodies[1]
  if #bodies > 1 then -- with one body wrk keeps one ready request, which costs it far less
    local requests, turn = {}, 0
    for number, body in ipairs(bodies) do
      requests[number] = wrk.format(nil, nil, nil, body)
    end
    function request()
      turn = turn % #requests + 1
      return requests[turn]
    end
  end
end

function done(summary, latency, _)
  local errors = summary.errors
  local bad = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('\n{"requests":%d,"microseconds":%d,"errors":%d,"p50":%d,"p99":%d,"histogram":[',
    summary.requests, summary.duration, bad, latency:percentile(50), latency:percentile(99)))
  if histogram then
    for number = 1, #latency do
      local value, count = latency(number)
      io.write(string.format("%s[%d,%d]", number > 1 and "," or "", value, count))
    end
  end
  io.write("]}\n")
end
