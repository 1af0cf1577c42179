import type { EventDraft } from "../api/resource.ts";
import { whenAborted } from "../base/abort.ts";
import { elapsed, type Instant, minutes, seconds } from "../base/time.ts";
import { exponential, pauseAfter } from "../runtime/backoff.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { linkedSignal } from "../runtime/linked-signal.ts";
import { eventOf, type RecordedEvent } from "./event-object.ts";
import type { EventRecorder, EventSubject } from "./kube.ts";
import type { Transport } from "./transport/transport.ts";

export type EventRecorderOptions = {
  /** The Pod's name: the reporting instance of each event. */
  readonly instance: string;
};

/** Publishes while `run` runs; what is still queued when it is stopped is sent first, for a few seconds at most. */
export type RunningEventRecorder = EventRecorder & { readonly run: (signal: AbortSignal) => Promise<void> };

/** The same event of the same object is published once in this time. */
const DEDUPE_WINDOW = minutes(10);
const REMEMBERED = 10_000;
/** As many wait only when the API server is failing; events beyond it are dropped. */
const QUEUE_LIMIT = 1000;
const ATTEMPTS = 4;
const FLUSH_TIMEOUT = seconds(5);

export function createEventRecorder(
  transport: Transport,
  { instance }: EventRecorderOptions,
  deps: RuntimeDeps,
): RunningEventRecorder {
  const queue: RecordedEvent[] = [];
  const recent = createRecentEvents();
  let wake: (() => void) | null = null;

  const count = (result: "sent" | "repeated" | "failed" | "dropped") =>
    deps.meter.count("edgefleet_events_total", { result });

  function record(about: EventSubject, draft: EventDraft): void {
    const at = deps.clock.now();
    const event = { about, draft, at };
    if (recent.has(event)) {
      count("repeated");
      return;
    }
    if (queue.length >= QUEUE_LIMIT) {
      count("dropped");
      return;
    }
    recent.add(event);
    queue.push(event);
    wake?.();
  }

  async function publishQueued(signal: AbortSignal): Promise<void> {
    for (let next = queue[0]; next !== undefined && !signal.aborted; next = queue[0]) {
      count(await publish(next, instance, transport, deps, signal));
      queue.shift();
    }
  }

  async function nextEvent(signal: AbortSignal): Promise<void> {
    using nap = linkedSignal(signal);
    wake = nap.abort;
    await deps.clock.sleep(minutes(60), nap.signal);
    wake = null;
  }

  return {
    record,
    run: async (signal) => {
      // An event that is being sent when `signal` aborts is not cut off at once, and the rest of the queue is flushed.
      const sending = new AbortController();
      const finished = new AbortController();
      const deadline = whenAborted(signal)
        .then(() => deps.clock.sleep(FLUSH_TIMEOUT, finished.signal))
        .then(() => sending.abort());
      while (!signal.aborted) {
        await publishQueued(sending.signal);
        if (queue.length === 0) await nextEvent(signal);
      }
      await publishQueued(sending.signal);
      for (const _ of queue.splice(0)) count("dropped");
      finished.abort();
      await deadline;
    },
  };
}

async function publish(
  event: RecordedEvent,
  instance: string,
  transport: Transport,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<"sent" | "failed"> {
  const backoff = exponential(seconds(1), seconds(30), deps.random);
  const { namespace } = event.about;
  const path = `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/events`;
  const body = eventOf(event, instance, deps.random);
  for (let attempt = 1; ; attempt += 1) {
    const answer = await transport.call({ method: "POST", path, body }, signal);
    // A conflict: an earlier attempt arrived although its answer did not.
    if (answer.ok || (answer.error.kind === "conflict" && attempt > 1)) return "sent";
    const { kind, message } = answer.error;
    const passing = kind === "throttled" || kind === "unavailable";
    if (!passing || attempt === ATTEMPTS || signal.aborted) {
      // Where the namespace is gone, so is everyone who would read the event.
      const log = kind === "missing" ? deps.log.debug : deps.log.warn;
      log("event was not published", { namespace, reason: event.draft.reason, cause: message });
      return "failed";
    }
    await deps.clock.sleep(pauseAfter(answer.error, backoff(attempt)), signal);
  }
}

type RecentEvents = {
  readonly has: (event: RecordedEvent) => boolean;
  readonly add: (event: RecordedEvent) => void;
};

/** The events of the last minutes, by their object and text. */
function createRecentEvents(): RecentEvents {
  const recorded = new Map<string, Instant>();
  const keyOf = ({ about, draft }: RecordedEvent) =>
    [about.uid, draft.type, draft.reason, draft.message].join("\n");

  function forgetOld(now: Instant): void {
    for (const [key, at] of recorded) {
      if (elapsed(at, now) < DEDUPE_WINDOW && recorded.size <= REMEMBERED) return;
      recorded.delete(key);
    }
  }

  return {
    has: (event) => {
      const before = recorded.get(keyOf(event));
      return before !== undefined && elapsed(before, event.at) < DEDUPE_WINDOW;
    },
    add: (event) => {
      const key = keyOf(event);
      recorded.delete(key); // so that the map stays in the order of its times
      recorded.set(key, event.at);
      forgetOld(event.at);
    },
  };
}
