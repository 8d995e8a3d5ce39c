-- What a pipeline sees, built from the host's functions. Loaded as stripped bytecode, so that no
-- frame of it ever counts as a place in the author's file.
--
-- A call that must wait yields CALL to the driver, which resumes the thread with the answer; or
-- never, where the job has failed: so neither pcall nor a coroutine of the author's can catch that.
-- Every yield of the author's own carries USER. A yield that carries neither is the time slice's.
local host, ci = ...

local error, next, rawget, setmetatable, type, xpcall = error, next, rawget, setmetatable, type, xpcall
local co_create, co_resume, co_yield, co_status, co_yieldable =
  coroutine.create, coroutine.resume, coroutine.yield, coroutine.status, coroutine.isyieldable

local CALL, USER = {}, {}

-- Coroutines of the author's: what is not meant for them goes on to the driver.

-- How many coroutines deep we are inside a callback of a C function, where nothing can wait.
local blocked = 0

local function settle(co, ok, mark, ...)
  if not ok then return false, mark end
  if co_status(co) == "dead" then return true, mark, ... end
  if mark == USER then return true, ... end
  if mark == CALL then return settle(co, co_resume(co, co_yield(CALL))) end
  if blocked == 0 then co_yield() end
  return settle(co, co_resume(co))
end

local function unblock(...)
  blocked = blocked - 1
  return ...
end

local function resume(co, ...)
  if co_yieldable() and blocked == 0 then return settle(co, co_resume(co, ...)) end
  blocked = blocked + 1
  return unblock(settle(co, co_resume(co, ...)))
end

local function raise_or_give(ok, ...)
  if ok then return ... end
  error((...), 0)
end

local function wrap(f)
  local co = co_create(f)
  return function(...) return raise_or_give(resume(co, ...)) end
end

local function yield(...) return co_yield(USER, ...) end

-- Results of commands: an empty table that notes when its exit is read.

local records = setmetatable({}, { __mode = "k" })

local function read(record, key)
  if key == "exit" then host.seen(record.call) end
  return record.fields[key]
end

local function copy(fields)
  local new = {}
  for key, value in next, fields do new[key] = value end
  return new
end

local result_meta = {
  __name = "result of a command",
  __metatable = false,
  __index = function(result, key) return read(records[result], key) end,
  __newindex = function() error(host.at("the result of a command cannot be changed"), 0) end,
  __pairs = function(result)
    local record = records[result]
    host.seen(record.call)
    return next, copy(record.fields), nil
  end,
}

local function new_result(call, fields)
  local result = setmetatable({}, result_meta)
  records[result] = { call = call, fields = fields }
  return result
end

-- The tools that wait.

local function wait(call, fault)
  if fault then error(fault, 0) end
  return co_yield(CALL, call)
end

local function check_can_wait(name)
  if blocked > 0 or not co_yieldable() then
    error(host.at("`" .. name .. "` cannot be called from inside a function that was given to table.sort, string.gsub or the like"), 0)
  end
end

local function sh(...)
  check_can_wait("sh")
  local call, fault = host.sh(...)
  return new_result(call, wait(call, fault))
end

-- A tool that gives a value, or raises why there is none.
local function asking(name, ask)
  return function(...)
    check_can_wait(name)
    local value, problem = wait(ask(...))
    if problem then error(host.at(problem), 0) end
    return value
  end
end

local function jobs(...)
  local value, fault = host.jobs(...)
  if fault then error(fault, 0) end
  return value
end

local function variable(...)
  local value, fault = host.env(...)
  if fault then error(fault, 0) end
  return value
end

local function log(...)
  local fault = host.log(...)
  if fault then error(fault, 0) end
end

-- Tables that say so when a name is not theirs.

local function strict(what, fields)
  local names = {}
  for name in next, fields do names[#names + 1] = name end
  table.sort(names)
  return setmetatable({}, {
    __metatable = false,
    __index = function(_, key)
      local value = fields[key]
      if value == nil then error(host.unknown(what, key, names), 0) end
      return value
    end,
    __newindex = function() error(host.at(what .. " cannot be changed"), 0) end,
    __pairs = function() return next, copy(fields), nil end,
  })
end

local tools = strict("the job's table", {
  sh = sh, jobs = jobs, log = log, env = variable,
  secret = asking("secret", host.secret),
  ["read-file"] = asking("read-file", host.read_file),
  ["read-json"] = asking("read-json", host.read_json),
  ["write-file"] = asking("write-file", host.write_file),
  artifact = asking("artifact", host.artifact),
})
local module = strict("quire.ci", ci)

-- The author's global environment.

local loaded, LOADING = { ["quire.ci"] = module }, {}

local function require(name)
  local value = loaded[name]
  if value == LOADING then error(host.at("`" .. name .. "` requires itself"), 0) end
  if value ~= nil then return value end
  local chunk, fault = host.module(name)
  if not chunk then error(fault, 0) end
  loaded[name] = LOADING
  value = chunk(name)
  if value == nil then value = true end
  loaded[name] = value
  return value
end

local env = {
  _VERSION = _VERSION,
  assert = assert, error = error, ipairs = ipairs, pairs = pairs, pcall = pcall, xpcall = xpcall,
  select = select, tonumber = tonumber, tostring = tostring, type = type,
  rawequal = rawequal, rawlen = rawlen, rawset = rawset, getmetatable = getmetatable,
  string = string, table = table, math = math, utf8 = utf8,
  require = require,
  coroutine = {
    create = co_create, resume = resume, yield = yield, wrap = wrap, status = co_status,
    running = coroutine.running, isyieldable = co_yieldable, close = coroutine.close,
  },
  next = function(t, key)
    local record = records[t]
    if not record then return next(t, key) end
    local found, value = next(record.fields, key)
    if found == "exit" then host.seen(record.call) end
    return found, value
  end,
  rawget = function(t, key)
    local record = records[t]
    if record then return read(record, key) end
    return rawget(t, key)
  end,
  setmetatable = function(t, meta)
    if type(meta) == "table" and rawget(meta, "__gc") ~= nil then
      error(host.at("__gc is not available in a pipeline"), 0)
    end
    return setmetatable(t, meta)
  end,
}
env._G = env
getmetatable("").__metatable = false

return {
  env = env,
  call = CALL,
  user = USER,
  register = function(chunk) return xpcall(chunk, host.raised) end,
  run = function(job) return xpcall(job, host.raised, tools) end,
  fields = function(value)
    local record = records[value]
    if record then return record.call, copy(record.fields) end
  end,
}
