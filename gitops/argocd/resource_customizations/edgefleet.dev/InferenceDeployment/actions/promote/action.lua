-- Continues past a hold, a warning or missing evidence; never past a breach. Each new value is handled once; Argo CD does not report the annotation as drift.
local os = require("os")
if obj.metadata.annotations == nil then obj.metadata.annotations = {} end
obj.metadata.annotations["edgefleet.dev/promote"] = tostring(os.time())
return obj
