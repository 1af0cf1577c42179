-- Rolls the candidate back. Each new value is handled once; Argo CD does not report the annotation as drift.
local os = require("os")
if obj.metadata.annotations == nil then obj.metadata.annotations = {} end
obj.metadata.annotations["edgefleet.dev/abort"] = tostring(os.time())
return obj
