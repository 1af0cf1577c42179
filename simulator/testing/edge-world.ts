import type { InferenceReport } from "../../src/api/device-contract.ts";
import { createManualClock } from "../base/clock.ts";
import type { JsonObject, JsonValue } from "../base/json.ts";
import { ownValue } from "../base/json.ts";
import { createSimulator, type SimulatorSetup } from "../simulator.ts";

/** When the worlds of tests begin. */
export const START = Date.parse("2026-03-01T12:00:00Z");

export const EDGE = "edge-1";

export type ModuleDraft = JsonObject & { readonly settings?: JsonObject };

/** A manifest whose modules have an image each, unless they say otherwise. */
export function manifestOf(
  modules: Readonly<Record<string, ModuleDraft>>,
  more: JsonObject = {},
): JsonObject {
  const container = (image: string, draft: ModuleDraft = {}): JsonObject => ({
    type: "docker",
    status: "running",
    restartPolicy: "always",
    ...draft,
    settings: { image, createOptions: "{}", ...draft.settings },
  });
  return {
    schemaVersion: "1.1",
    runtime: { type: "docker", settings: { minDockerVersion: "v1.25" } },
    systemModules: { edgeAgent: container("agent:1.5"), edgeHub: container("hub:1.5") },
    modules: Object.fromEntries(
      Object.entries(modules).map(([name, draft]) => [name, container(`${name}:1`, draft)]),
    ),
    ...more,
  };
}

/** A hub in virtual time with one edge device, and what a test does to its agent and sees of it. */
export function edgeWorld(setup: SimulatorSetup = {}) {
  const simulator = createSimulator({ clock: createManualClock(START), download: "skip", ...setup });
  const { hub } = simulator;
  hub.registry.putDevice(EDGE, { capabilities: { iotEdge: true } }, null);
  const reported = (module: string): JsonObject => hub.twins.get(`${EDGE}/${module}`)?.reported.value ?? {};

  /** As the hub does it: the agent's twin, and an identity for every module that it names. */
  function deploy(desired: JsonObject): number {
    const key = `${EDGE}/$edgeAgent`;
    const written = hub.twins.replace(key, { tags: null, desired }, null);
    if (!written.ok) throw new Error(written.refusal.message);
    const modules = (desired["modules"] ?? {}) as JsonObject;
    for (const name of Object.keys(modules)) hub.registry.ensureModule(EDGE, name);
    return written.value.desired.version;
  }

  function moduleReport(name: string): JsonObject {
    const { modules, systemModules } = reported("$edgeAgent") as Record<string, JsonObject>;
    return (ownValue({ ...systemModules, ...modules }, name) ?? {}) as JsonObject;
  }

  /** What the agent says of the manifest. */
  function verdict() {
    const { lastDesiredVersion: version, lastDesiredStatus: status } = reported("$edgeAgent");
    const { code, description } = (status ?? {}) as JsonObject;
    return { version, code, description };
  }

  /** Calls a direct method; `null`: no answer in time, in virtual time. */
  async function call(name: string, payload?: JsonValue, responseTimeout = 30_000) {
    const asked = hub.methods.invoke(`${EDGE}/$edgeAgent`, {
      name,
      payload,
      connectTimeout: 0,
      responseTimeout,
    });
    let done = false;
    void asked.finally(() => {
      done = true;
    });
    await simulator.advance(0);
    for (let waited = 0; !done && waited <= responseTimeout; waited += 1000) await simulator.advance(1000);
    const answer = await asked;
    if (!answer.ok) return { refused: answer.refusal.status, status: null, payload: null };
    return { refused: null, ...(answer.value as { status: number; payload: JsonValue }) };
  }

  return {
    ...simulator,
    deploy,
    reported,
    moduleReport,
    verdict,
    call,
    inference: (module: string) => reported(module)["inference"] as unknown as InferenceReport | undefined,
  };
}
