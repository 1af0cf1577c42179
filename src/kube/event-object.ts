import { type EventDraft, GROUP, VERSION } from "../api/resource.ts";
import type { Instant } from "../base/time.ts";
import type { EventSubject } from "./kube.ts";

export type RecordedEvent = {
  readonly about: EventSubject;
  readonly draft: EventDraft;
  readonly at: Instant;
};

const CONTROLLER = `${GROUP}/operator`;
/** Limits of events.k8s.io/v1, in bytes. */
const NOTE_BYTES = 1024;
const WORD_BYTES = 128;

/** The Event of events.k8s.io/v1. `instance`: the Pod that reports it. */
export function eventOf({ about, draft, at }: RecordedEvent, instance: string, random: () => number) {
  // Names of events only have to differ from each other.
  const suffix = `${at.toString(16)}${Math.floor(random() * 2 ** 32)
    .toString(16)
    .padStart(8, "0")}`;
  return {
    apiVersion: "events.k8s.io/v1",
    kind: "Event",
    metadata: {
      namespace: about.namespace,
      name: `${about.name.slice(0, 200).replace(/[^a-z0-9]+$/, "")}.${suffix}`,
    },
    eventTime: new Date(at).toISOString().replace("Z", "000Z"),
    reportingController: CONTROLLER,
    reportingInstance: cutBytes(instance, WORD_BYTES),
    type: draft.type,
    action: "Reconcile",
    reason: cutBytes(draft.reason, WORD_BYTES),
    note: cutBytes(draft.message, NOTE_BYTES),
    regarding: {
      apiVersion: `${GROUP}/${VERSION}`,
      kind: about.kind,
      namespace: about.namespace,
      name: about.name,
      uid: about.uid,
    },
  };
}

/** At most `bytes` bytes of UTF-8, whole characters only. */
function cutBytes(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text.toWellFormed();
  return `${Buffer.from(text)
    .subarray(0, bytes - 3)
    .toString("utf8")
    .replace(/\uFFFD+$/, "")}…`;
}
