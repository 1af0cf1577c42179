-- Ends a pause. Where git sets spec.paused, self-heal reverts this: resume in git there.
obj.spec.paused = false
return obj
