import type { Brand } from "../base/brand.ts";
import type { Instant } from "../base/time.ts";

export const GROUP = "edgefleet.dev";
export const VERSION = "v1alpha1";
/** The one thing the operator adds to the metadata of its kinds. */
export const FINALIZER = "edgefleet.dev/hub";

/** `namespace/name`: what a queue holds. */
export type ObjectKey = Brand<string, "ObjectKey">;

/** One of our objects as the operator sees it: what a projection keeps of it before it is cached. */
export type Resource<Spec, Status> = {
  readonly key: ObjectKey;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  /** By the API server's clock, to the second. */
  readonly createdAt: Instant;
  /** Opaque; compared for equality only. */
  readonly resourceVersion: string;
  readonly deleting: boolean;
  readonly finalizers: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Only those of our own group: requests such as `edgefleet.dev/abort`. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly spec: Spec;
  readonly status: Status | null;
};

export function objectKey(namespace: string, name: string): ObjectKey {
  return `${namespace}/${name}` as ObjectKey;
}

export function splitKey(key: ObjectKey): { readonly namespace: string; readonly name: string } {
  const [namespace = "", name = ""] = key.split("/");
  return { namespace, name };
}

/** What an event says; events are recorded on transitions only. */
export type EventDraft = {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
};

/** adopt: add our finalizer · live: reconcile · cleanup: undo, then let go · gone: nothing left to do */
export type Lifecycle = "adopt" | "live" | "cleanup" | "gone";

export function lifecycleOf(
  resource: Pick<Resource<unknown, unknown>, "deleting" | "finalizers">,
): Lifecycle {
  const held = resource.finalizers.includes(FINALIZER);
  if (resource.deleting) return held ? "cleanup" : "gone";
  return held ? "live" : "adopt";
}
