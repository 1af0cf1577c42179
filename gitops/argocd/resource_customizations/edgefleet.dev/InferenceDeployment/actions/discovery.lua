-- Which actions an InferenceDeployment offers: those that the operator would not reject in this phase.
if obj.metadata.deletionTimestamp ~= nil then return {} end

local status = obj.status
if status == nil then status = {} end

local isContradicted = false
if status.conditions ~= nil then
  for _, found in ipairs(status.conditions) do
    if found.type == "Ready" and found.reason == "StateContradicted" then isContradicted = true end
  end
end

local phase = status.phase
local isUnderWay = phase == "Progressing" or phase == "Holding" or phase == "Baking" or phase == "Frozen"
local isPaused = obj.spec.paused == true

local mayAbort = isUnderWay or isContradicted or (phase == "Pending" and status.candidate ~= nil)
local mayPromote = isContradicted or (isUnderWay and phase ~= "Frozen")
local mayRetry = isContradicted or phase == "RolledBack"

local actions = {}
actions["abort"] = { ["disabled"] = not mayAbort }
actions["promote"] = { ["disabled"] = not mayPromote }
actions["retry"] = { ["disabled"] = not mayRetry }
actions["pause"] = { ["disabled"] = isPaused }
actions["resume"] = { ["disabled"] = not isPaused }
return actions
