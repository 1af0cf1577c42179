import type { Note } from "../../src/api/resource.ts";
import type { Announcer } from "../../src/kube/kube.ts";

export type FakeAnnouncer = Announcer & {
  readonly notes: () => readonly (Note & { readonly about: string })[];
  readonly clear: () => void;
};

/** Keeps events; `about` is `kind namespace/name`. */
export function createFakeAnnouncer(): FakeAnnouncer {
  let notes: (Note & { readonly about: string })[] = [];
  return {
    announce: ({ kind, namespace, name }, note) => {
      notes.push({ about: `${kind} ${namespace}/${name}`, ...note });
    },
    notes: () => [...notes],
    clear: () => {
      notes = [];
    },
  };
}
