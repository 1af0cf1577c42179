-- Stops progress and keeps protection. Where git sets spec.paused, self-heal reverts this: pause in git there.
obj.spec.paused = true
return obj
