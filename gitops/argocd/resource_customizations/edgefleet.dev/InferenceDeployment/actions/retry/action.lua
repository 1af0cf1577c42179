-- Rolls the release out again that was rolled back here. Each new value is handled once; Argo CD does not report the annotation as drift.
local os = require("os")
if obj.metadata.annotations == nil then obj.metadata.annotations = {} end
obj.metadata.annotations["edgefleet.dev/retry"] = tostring(os.time())
return obj
