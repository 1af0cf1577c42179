-- Ends a pause. This changes the spec: with self-heal Argo CD reverts it, so resume in git there.
obj.spec.paused = false
return obj
