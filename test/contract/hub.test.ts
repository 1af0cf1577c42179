import { createSimulator } from "../../simulator/simulator.ts";
import { seconds } from "../../src/base/time.ts";
import { createAzureHub } from "../../src/hub/azure-hub.ts";
import { createThrottle } from "../../src/hub/throttle.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { createFakeLog } from "../fakes/fake-log.ts";
import { type HubSubject, hubContract } from "./hub-contract.ts";

const PAGE = 4;

/** The adapter over azure-iothub, against the simulator, over HTTPS. */
async function simulated(): Promise<HubSubject> {
  const simulator = createSimulator({ throttling: false, maximumPageSize: PAGE });
  const { port, ca, connectionString } = await simulator.start();
  const clock = systemClock();
  const wide = { operations: 100_000, window: seconds(1) };
  const budgets = { identity: wide, twinRead: wide, twinWrite: wide, query: wide, configuration: wide };
  const hub = createAzureHub({
    access: { kind: "connectionString", connectionString },
    endpoint: { host: "127.0.0.1", port, ca },
    throttle: createThrottle({ clock, budgets }),
    clock,
    log: createFakeLog(),
    // It throws for a name or a label that its table does not know.
    meter: createMetrics("throw").meter,
    random: () => 0.5,
  });
  return {
    hub,
    capacity: 100,
    pageSize: PAGE,
    report: async ({ device, module }, reported) => {
      const key = module === null ? device : `${device}/${module}`;
      const written = simulator.hub.twins.report(key, JSON.parse(JSON.stringify(reported)));
      if (!written.ok) throw new Error(written.refusal.message);
    },
    addModule: async (device, module) => {
      const body = { deviceId: device, moduleId: module };
      const written = simulator.hub.registry.putModule(device, module, body, null);
      if (!written.ok) throw new Error(written.refusal.message);
    },
    stop: async () => {
      hub.close();
      await simulator.stop();
    },
  };
}

hubContract("azure-iothub against the simulator", simulated);
