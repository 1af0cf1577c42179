import { findCondition } from "../../src/api/condition.ts";
import type { ModelReleaseSpec, ModelReleaseStatus } from "../../src/api/model-release.ts";
import { type ObjectKey, objectKey } from "../../src/api/resource.ts";
import { type Grant, OPEN_GRANT } from "../../src/api/tenancy.ts";
import { seconds } from "../../src/base/time.ts";
import { reconcileRelease } from "../../src/releases/reconcile.ts";
import { createReverifySlots } from "../../src/releases/reverify-slots.ts";
import type { Outcome } from "../../src/runtime/outcome.ts";
import type { ModelStore } from "../../src/store/store.ts";
import { keyOf } from "../../src/verification/key.ts";
import { reportPage } from "../../src/verification/report-page.ts";
import { GOLDEN, releaseSpec, variant } from "../builders/releases.ts";
import { type Calls, Crash, createCalls } from "./calls.ts";
import { createFakeClock } from "./fake-clock.ts";
import { createFakeEventRecorder } from "./fake-event-recorder.ts";
import { createFakeMeter } from "./fake-meter.ts";
import { createFakeResources } from "./fake-resources.ts";
import { createFakeStore } from "./fake-store.ts";
import { createFakeVerifier } from "./fake-verifier.ts";

const KEY = objectKey("plant-a", "resnet50-2.1.0");
const signal = new AbortController().signal;

/** One release controller on fakes, in virtual time. */
export function createReleaseWorld(calls: Calls = createCalls()) {
  const clock = createFakeClock();
  const releases = createFakeResources<ModelReleaseSpec, ModelReleaseStatus>("releases", calls);
  const blobs = createFakeStore(clock);
  const expiries: number[] = [];
  const store: ModelStore = {
    stat: async (blob, during) => {
      const answer = await blobs.stat(blob, during);
      return calls.run("store.stat", () => answer);
    },
    readUrl: async (blob, expiresAt, during) => {
      expiries.push(expiresAt - clock.now());
      const answer = await blobs.readUrl(blob, expiresAt, during);
      return calls.run("store.readUrl", () => answer);
    },
    put: async (blob, document, during) => {
      const answer = await blobs.put(blob, document, during);
      return calls.run("store.put", () => answer);
    },
  };
  const verifier = createFakeVerifier(calls);
  const recorder = createFakeEventRecorder();
  const meter = createFakeMeter();
  let reverifySlots = createReverifySlots();
  const granted = new Map<string, Grant>();
  const start = () =>
    reconcileRelease({
      ...{ releases, store, verifier, recorder, meter, keyOf, clock, random: () => 0.5 },
      ...{ reverifySlots, pageOf: reportPage },
      grants: (namespace) => granted.get(namespace) ?? OPEN_GRANT,
    });
  let reconcile = start();
  for (const name of ["fp32", "int8"]) blobs.upload(variant(name).blob, Buffer.from(name));
  blobs.upload(GOLDEN.blob, Buffer.from("golden"));

  /** A new process: what was known by heart is asked again. */
  const restart = () => {
    reverifySlots = createReverifySlots();
    reconcile = start();
  };
  const pass = (key: ObjectKey = KEY) => reconcile(key, signal);
  /** Passes until nothing is called any more; time goes on as the outcomes say. */
  async function settle(between: () => void = () => {}): Promise<Outcome> {
    for (let passes = 0; passes < 30; passes += 1) {
      calls.clear();
      between();
      try {
        const outcome = await pass();
        if (calls.made().length === 0 && outcome.kind === "settled") return outcome;
        await clock.advance(outcome.kind === "wakeAfter" ? outcome.delay : seconds(600));
      } catch (error) {
        if (!(error instanceof Crash)) throw error;
        restart();
      }
    }
    throw new Error(`does not settle: ${calls.made().join(", ")}`);
  }
  const status = () => releases.get(KEY)?.status ?? {};
  const condition = (type: string) => findCondition(status().conditions, type);
  const summary = () =>
    Object.fromEntries(
      (status().conditions ?? []).map(({ type, status: is, reason }) => [type, `${is} ${reason}`]),
    );
  const events = () => recorder.drafts().map(({ type, reason }) => `${type} ${reason}`);
  const create = (change: Partial<ModelReleaseSpec> = {}) =>
    releases.create({ name: "resnet50-2.1.0", spec: releaseSpec(change) });
  return {
    calls,
    clock,
    reverifySlots: () => reverifySlots,
    releases,
    blobs,
    verifier,
    granted,
    recorder,
    meter,
    expiries,
    restart,
    pass,
    settle,
    status,
    condition,
    summary,
    events,
    create,
  };
}
