import type { EventDraft } from "../../src/api/resource.ts";
import type { EventRecorder } from "../../src/kube/kube.ts";

export type FakeEventRecorder = EventRecorder & {
  readonly drafts: () => readonly (EventDraft & { readonly about: string })[];
  readonly clear: () => void;
};

/** Keeps events; `about` is `kind namespace/name`. */
export function createFakeEventRecorder(): FakeEventRecorder {
  let drafts: (EventDraft & { readonly about: string })[] = [];
  return {
    record: ({ kind, namespace, name }, draft) => {
      drafts.push({ about: `${kind} ${namespace}/${name}`, ...draft });
    },
    drafts: () => [...drafts],
    clear: () => {
      drafts = [];
    },
  };
}
