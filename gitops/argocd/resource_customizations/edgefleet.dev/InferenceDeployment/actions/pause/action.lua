-- Stops progress and keeps protection. This changes the spec: with self-heal Argo CD reverts it, so pause in git there.
obj.spec.paused = true
return obj
