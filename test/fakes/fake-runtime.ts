import type { RuntimeDeps } from "../../src/runtime/deps.ts";
import { createFakeClock, type FakeClock } from "./fake-clock.ts";
import { createFakeLog, type FakeLog } from "./fake-log.ts";
import { createFakeMeter, type FakeMeter } from "./fake-meter.ts";

export type FakeRuntime = RuntimeDeps & {
  readonly clock: FakeClock;
  readonly log: FakeLog;
  readonly meter: FakeMeter;
};

/** What runs by itself needs, with time that is moved by hand and jitter that is always half. */
export function createFakeRuntime(): FakeRuntime {
  return { clock: createFakeClock(), log: createFakeLog(), meter: createFakeMeter(), random: () => 0.5 };
}
