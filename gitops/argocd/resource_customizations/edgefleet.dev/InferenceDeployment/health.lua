-- Health of an InferenceDeployment: Healthy when its devices run the release, Degraded when it was rolled back, is being
-- rolled back, or needs a person, Suspended when it is paused, and Progressing otherwise.
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
  return { status = "Progressing", message = ready.message }
end

if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "waiting for the operator" }
end

local message = ready.reason .. ": " .. ready.message

if condition("Stalled").status == "True" then
  return { status = "Degraded", message = message }
end

local degraded = condition("Degraded")
if degraded.status == "True" then
  return { status = "Degraded", message = degraded.reason .. ": " .. degraded.message }
end

if ready.status == "True" then
  return { status = "Healthy", message = message }
end

if ready.reason == "Paused" then
  return { status = "Suspended", message = message }
end

return { status = "Progressing", message = message }
