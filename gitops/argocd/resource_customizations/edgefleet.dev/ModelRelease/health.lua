-- Health of a ModelRelease: Healthy when it is verified, Degraded when it failed or only a person can help.
local function condition(name)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, found in ipairs(obj.status.conditions) do
      if found.type == name then return found end
    end
  end
  return { status = "Unknown", reason = "Unknown", message = "" }
end

local ready = condition("Ready")

if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "being deleted: " .. ready.message }
end

if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "waiting for the operator" }
end

local message = ready.reason .. ": " .. ready.message

if condition("Stalled").status == "True" then
  return { status = "Degraded", message = message }
end

if ready.status ~= "True" then
  return { status = "Progressing", message = message }
end

return { status = "Healthy", message = message }
