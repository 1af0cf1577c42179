-- A ModelRelease that has a verdict can be verified again.
if obj.metadata.deletionTimestamp ~= nil then return {} end

local hasVerdict = false
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, found in ipairs(obj.status.conditions) do
    if found.type == "Verified" and found.status ~= "Unknown" then hasVerdict = true end
  end
end

local actions = {}
actions["reverify"] = { ["disabled"] = not hasVerdict }
return actions
