import { GROUP, type Note, VERSION } from "../api/resource.ts";
import { whenAborted } from "../base/abort.ts";
import { elapsed, type Instant, millis, minutes, seconds } from "../base/time.ts";
import { exponential } from "../runtime/backoff.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { linkedSignal } from "../runtime/linked-signal.ts";
import type { Announcer } from "./kube.ts";
import type { Transport } from "./transport.ts";

export type AnnouncerOptions = {
  /** Who says it: the Pod's name. */
  readonly instance: string;
};

/** Publishes while `run` runs; what is still queued when it is stopped is sent first, for a few seconds at most. */
export type RunningAnnouncer = Announcer & { readonly run: (signal: AbortSignal) => Promise<void> };

type About = Parameters<Announcer["announce"]>[0];
type Queued = { readonly about: About; readonly note: Note; readonly at: Instant };

const CONTROLLER = `${GROUP}/operator`;
/** The same words about the same object are said once in this time. */
const QUIET = minutes(10);
/** More than this wait only when the API server has trouble; news that nobody can take is left out. */
const QUEUE_LIMIT = 1000;
const MEMORY_LIMIT = 10_000;
const ATTEMPTS = 4;
const FAREWELL = seconds(5);
/** Limits of events.k8s.io/v1, in bytes. */
const NOTE_BYTES = 1024;
const WORD_BYTES = 128;

export function createAnnouncer(
  transport: Transport,
  options: AnnouncerOptions,
  deps: RuntimeDeps,
): RunningAnnouncer {
  const queue: Queued[] = [];
  const said = new Map<string, Instant>();
  let wake: (() => void) | null = null;

  function announce(about: About, note: Note): void {
    const at = deps.clock.now();
    const words = [about.uid, note.type, note.reason, note.message].join("\n");
    const before = said.get(words);
    if (before !== undefined && elapsed(before, at) < QUIET) {
      count("repeated");
      return;
    }
    if (queue.length >= QUEUE_LIMIT) {
      count("dropped");
      return;
    }
    said.delete(words); // so that the map stays in the order in which things were said
    said.set(words, at);
    forgetOld(at);
    queue.push({ about, note, at });
    wake?.();
  }

  function forgetOld(now: Instant): void {
    for (const [words, at] of said) {
      if (elapsed(at, now) < QUIET && said.size <= MEMORY_LIMIT) return;
      said.delete(words);
    }
  }

  function count(result: "sent" | "repeated" | "failed" | "dropped"): void {
    deps.meter.count("edgefleet_events_total", { result });
  }

  async function publish(queued: Queued, signal: AbortSignal): Promise<void> {
    const backoff = exponential(seconds(1), seconds(30), deps.random);
    const { namespace } = queued.about;
    const path = `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/events`;
    const body = eventOf(queued, options.instance, deps.random);
    for (let attempt = 1; ; attempt += 1) {
      const answer = await transport.call({ method: "POST", path, body }, signal);
      // A conflict: an earlier attempt arrived although its answer did not.
      if (answer.ok || (answer.error.kind === "conflict" && attempt > 1)) {
        count("sent");
        return;
      }
      const passing = answer.error.kind === "throttled" || answer.error.kind === "unavailable";
      if (!passing || attempt === ATTEMPTS || signal.aborted) {
        count("failed");
        // Its namespace is gone, and with it whoever would read this.
        const log = answer.error.kind === "missing" ? deps.log.debug : deps.log.warn;
        log("event was not published", {
          namespace,
          reason: queued.note.reason,
          cause: answer.error.message,
        });
        return;
      }
      const asked = answer.error.kind === "throttled" ? answer.error.retryAfter : 0;
      await deps.clock.sleep(millis(Math.max(backoff(attempt), asked)), signal);
    }
  }

  async function publishQueued(signal: AbortSignal): Promise<void> {
    for (let next = queue[0]; next !== undefined && !signal.aborted; next = queue[0]) {
      await publish(next, signal);
      queue.shift();
    }
  }

  async function nextNews(signal: AbortSignal): Promise<void> {
    using nap = linkedSignal(signal);
    wake = nap.abort;
    await deps.clock.sleep(minutes(60), nap.signal);
    wake = null;
  }

  return {
    announce,
    run: async (signal) => {
      // What is being sent when we are told to stop is not cut off at once: there is time for a farewell.
      const sending = new AbortController();
      const finished = new AbortController();
      const deadline = whenAborted(signal)
        .then(() => deps.clock.sleep(FAREWELL, finished.signal))
        .then(() => sending.abort());
      while (!signal.aborted) {
        await publishQueued(sending.signal);
        if (queue.length === 0) await nextNews(signal);
      }
      await publishQueued(sending.signal);
      for (const _ of queue.splice(0)) count("dropped");
      finished.abort();
      await deadline;
    },
  };
}

function eventOf({ about, note, at }: Queued, instance: string, random: () => number) {
  // Names of events only have to differ.
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
    reportingInstance: cut(instance, WORD_BYTES),
    type: note.type,
    action: "Reconcile",
    reason: cut(note.reason, WORD_BYTES),
    note: cut(note.message, NOTE_BYTES),
    regarding: {
      apiVersion: `${GROUP}/${VERSION}`,
      kind: about.kind,
      namespace: about.namespace,
      name: about.name,
      uid: about.uid,
    },
  };
}

/** At most so many bytes of UTF-8, whole characters only. */
function cut(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text.toWellFormed();
  return `${Buffer.from(text)
    .subarray(0, bytes - 3)
    .toString("utf8")
    .replace(/\uFFFD+$/, "")}…`;
}
