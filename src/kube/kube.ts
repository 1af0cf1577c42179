import type { EventDraft, ObjectKey, Resource } from "../api/resource.ts";
import type { Attempt } from "../base/fault.ts";

// The port of the Kubernetes API: types only.

/** One kind of ours: reads come from the cache of its list-watch, writes are optimistic. */
export type Resources<Spec, Status> = {
  readonly get: (key: ObjectKey) => Resource<Spec, Status> | undefined;
  /** All of one namespace, or of all namespaces. */
  readonly list: (namespace?: string) => readonly Resource<Spec, Status>[];
  /** Replaces the status under `had`'s resourceVersion; `conflict` when that is no longer the newest. No write where nothing differs. */
  readonly writeStatus: (
    had: Resource<Spec, Status>,
    next: Status,
    signal: AbortSignal,
  ) => Attempt<Resource<Spec, Status>>;
  readonly setFinalizer: (
    had: Resource<Spec, Status>,
    on: "add" | "remove",
    signal: AbortSignal,
  ) => Attempt<Resource<Spec, Status>>;
};

export type Secret = {
  readonly namespace: string;
  readonly name: string;
  /** Plain text; encoded on the wire. */
  readonly data: Readonly<Record<string, string>>;
  /** uid of the controlling owner, `null` where there is none. */
  readonly ownerUid: string | null;
};

export type Secrets = {
  readonly get: (namespace: string, name: string, signal: AbortSignal) => Attempt<Secret | null>;
  /** Creates or replaces the data; the owner reference makes the garbage collector delete it with its owner. */
  readonly apply: (
    owner: { readonly kind: "EdgeDevice"; readonly name: string; readonly uid: string },
    secret: Omit<Secret, "ownerUid">,
    signal: AbortSignal,
  ) => Attempt<void>;
};

/** The object of ours that an event is about. */
export type EventSubject = Pick<Resource<unknown, unknown>, "namespace" | "name" | "uid"> & {
  readonly kind: string;
};

/** Publishes events: deduplicated, in the background, and never fails its caller. */
export type EventRecorder = {
  readonly record: (about: EventSubject, draft: EventDraft) => void;
};
