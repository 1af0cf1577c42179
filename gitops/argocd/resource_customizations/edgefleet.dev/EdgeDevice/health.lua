-- Health of an EdgeDevice: whether the object is reconciled. A device that is off makes no application Degraded; the
-- message says what the device itself does.
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

if condition("Stalled").status == "True" then
  return { status = "Degraded", message = ready.reason .. ": " .. ready.message }
end

if ready.status ~= "True" then
  return { status = "Progressing", message = ready.reason .. ": " .. ready.message }
end

for _, name in ipairs({ "ModelInSync", "Online" }) do
  local found = condition(name)
  if found.status ~= "True" then
    return { status = "Healthy", message = found.reason .. ": " .. found.message }
  end
end

return { status = "Healthy", message = ready.message }
