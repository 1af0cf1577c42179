-- Verifies the release once more; the verdict stands until there is a new one. Argo CD does not report the annotation as drift.
local os = require("os")
if obj.metadata.annotations == nil then obj.metadata.annotations = {} end
obj.metadata.annotations["edgefleet.dev/reverify"] = tostring(os.time())
return obj
