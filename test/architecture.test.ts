import { readdirSync } from "node:fs";
import { join, posix } from "node:path";
import { describe, expect, test } from "vitest";
import { type Import, importsOf, type Source, sourcesIn } from "./builders/sources.ts";

// The table of docs/map.md, held against the code. Changing it here is changing the architecture: say so there too.

const ADAPTER = ["base", "api", "runtime", "telemetry/telemetry"];
const DOMAIN = [...ADAPTER, "hub/hub", "store/store", "verification/verification", "kube/kube"];

/** Who may import whom. `hub/hub` is a port: that one file, and of it types. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  api: ["base"],
  telemetry: ["base"],
  runtime: ["base", "telemetry/telemetry"],
  kube: ADAPTER,
  hub: ADAPTER,
  store: ADAPTER,
  verification: ADAPTER,
  verifier: [...ADAPTER, "verification/verification"],
  devices: DOMAIN,
  releases: DOMAIN,
  rollouts: DOMAIN,
};

/** The files that may name a package, by the start of their path; `node:` stands for all of Node's own. */
const MAY_USE: Readonly<Record<string, readonly string[]>> = {
  "base/cron": ["croner"],
  "base/digest": ["node:crypto"],
  "base/flags": ["node:util"],
  "api/": ["typebox"],
  "runtime/": ["node:"],
  "telemetry/": ["node:"],
  "telemetry/log": ["pino"],
  "telemetry/metrics": ["prom-client"],
  "kube/": ["node:", "@kubernetes/client-node", "undici", "fast-json-patch"],
  "hub/": ["node:"],
  "hub/azure-": ["azure-iothub", "@azure/identity"],
  "store/": ["node:"],
  "store/azure-": ["@azure/storage-blob", "@azure/identity"],
  "verification/": ["node:"],
  "verifier/service/": ["node:"],
  "verifier/checks/": ["node:path", "node:fs/promises"],
  "verifier/process/": ["node:"],
  "verifier/protocol/": ["node:buffer", "node:v8"],
  "verifier/child/": ["node:", "onnxruntime-node"],
  "verifier/golden/": ["node:buffer"],
  "verifier/onnx/": ["node:buffer"],
  "verifier/files/": ["node:"],
  "verifier/files/archive": ["tar-stream"],
};

/**
 * Folders within a room that import one way only, types included. What the sidecar and the child process share is
 * `protocol` and what stands below it, so nothing that loads ONNX Runtime gets into the sidecar.
 */
const FOLDERS: Readonly<Record<string, readonly string[]>> = {
  "verifier/service": ["checks", "process", "files"],
  "verifier/checks": ["process", "protocol", "score", "golden", "onnx", "files"],
  "verifier/process": ["protocol"],
  "verifier/child": ["protocol", "score", "golden", "onnx", "files"],
  "verifier/protocol": ["score", "golden", "onnx"],
  "verifier/score": ["golden", "onnx"],
  "verifier/golden": ["onnx", "files"],
  "verifier/onnx": ["files"],
  "verifier/files": [],
};

const DOMAIN_ROOMS = ["devices", "releases", "rollouts"];
/** The files of domain rooms that wait, act, or remember something between two passes; every other one is pure. */
const SHELL = [
  ...DOMAIN_ROOMS.flatMap((room) => ["observe", "act", "reconcile"].map((verb) => `${room}/${verb}.ts`)),
  "devices/departures.ts",
  "releases/active-verifications.ts",
  "releases/reverify-slots.ts",
  "rollouts/memory.ts",
];
/** Of a port only types: what a pure file knows of the world is what the world looks like. */
const PURE_MAY_IMPORT = ["base", "api", "hub/hub", "store/store", "verification/verification", "kube/kube"];
const IMPURE =
  /\b(?:async|await|Promise|Date|setTimeout|setInterval|setImmediate|fetch)\b|\bMath\.random\b|\bprocess\./g;

const ROOT = join(import.meta.dirname, "..");

const rooms = sourcesIn("src").filter(({ path }) => path.includes("/"));
const simulator = sourcesIn("simulator");
const cli = sourcesIn("cli");

describe("the code", () => {
  test("every file that is named as one that may wait, act or remember exists", () => {
    expect(SHELL.filter((path) => !rooms.some((source) => source.path === path))).toEqual([]);
  });

  test("every room is in the table, and every entry of the table is a room", () => {
    const found = readdirSync(join(ROOT, "src"), { withFileTypes: true }).filter((entry) =>
      entry.isDirectory(),
    );
    expect(found.map(({ name }) => name).sort()).toEqual(Object.keys(MAY_IMPORT).sort());
  });

  test("every folder of the verifier is in the table, and every entry of the table is a folder", () => {
    const found = readdirSync(join(ROOT, "src/verifier"), { withFileTypes: true });
    expect(found.map(({ name }) => `verifier/${name}`).sort()).toEqual(Object.keys(FOLDERS).sort());
  });

  test.each(rooms)("src/$path keeps to the table", (source) => {
    expect(faultsOf(source)).toEqual([]);
  });

  test.each(simulator)(
    "simulator/$path knows nothing of us but the device contract and how flags are read",
    (source) => {
      expect(faultsOfSimulator(source)).toEqual([]);
    },
  );

  test.each(simulator)("simulator/$path imports only the folders below its own", (source) => {
    expect(faultsOfSimulatorOrder(source)).toEqual([]);
  });
});

describe("the program for people", () => {
  test.each(cli)("cli/$path knows what is verified, and nothing of clusters and hubs", (source) => {
    expect(faultsOfCli(source)).toEqual([]);
  });

  test.each([
    [`import { parseOperatorSettings } from "../src/operator-settings.ts";`, "../src/operator-settings.ts"],
    [`import { advance } from "../src/rollouts/state/advance.ts";`, "../src/rollouts/state/advance.ts"],
    [`import { runController } from "../src/runtime/controller.ts";`, "../src/runtime/controller.ts"],
    [`import { createSimulator } from "../simulator/simulator.ts";`, "../simulator/simulator.ts"],
    [`import { isObject } from "../simulator/base/json.ts";`, "../simulator/base/json.ts"],
    [`import ort from "onnxruntime-node";`, "onnxruntime-node"],
  ])("and would not get away with %s", (text, culprit) => {
    expect(faultsOfCli({ path: "main.ts", text })).toEqual([culprit]);
  });
});

describe("the table catches", () => {
  test.each<[string, string, string, string]>([
    [
      "a room that looks up",
      "runtime/queue.ts",
      `import { deviceIdOf } from "../api/edge-device.ts";`,
      "../api/edge-device.ts",
    ],
    [
      "a domain room in another",
      "releases/observe.ts",
      `import { advance } from "../rollouts/advance.ts";`,
      "../rollouts/advance.ts",
    ],
    [
      "an adapter in a domain room",
      "devices/act.ts",
      `import type { Budget } from "../hub/throttle.ts";`,
      "../hub/throttle.ts",
    ],
    [
      "the value of a port",
      "hub/azure-hub.ts",
      `import { TOO_MUCH } from "../telemetry/telemetry.ts";`,
      "TOO_MUCH",
    ],
    [
      "a value among the types of a port",
      "devices/act.ts",
      `import { type Twin, stray } from "../hub/hub.ts";`,
      "stray",
    ],
    [
      "a main in a room",
      "kube/leadership/lease.ts",
      `import { parseOperatorSettings } from "../../operator-settings.ts";`,
      "../../operator-settings.ts",
    ],
    [
      "a port that is not for everybody",
      "hub/fleet-view.ts",
      `import type { Secrets } from "../kube/kube.ts";`,
      "../kube/kube.ts",
    ],
    [
      "a package outside its adapter",
      "rollouts/observe.ts",
      `import iothub from "azure-iothub";`,
      "azure-iothub",
    ],
    [
      "a package beside its adapter",
      "hub/fleet-view.ts",
      `import { Registry } from "azure-iothub/dist/registry.js";`,
      "azure-iothub",
    ],
    ["Node in base", "base/time.ts", `import { hrtime } from "node:process";`, "node:process"],
    [
      "an import over several lines",
      "base/time.ts",
      `import {\n  a,\n  b,\n} from "../api/schema.ts";`,
      "../api/schema.ts",
    ],
    [
      "an import that runs later",
      "base/time.ts",
      `const later = import("../api/schema.ts");`,
      "../api/schema.ts",
    ],
    ["an import for its effect", "api/schema.ts", `import "../kube/kube.ts";`, "../kube/kube.ts"],
    ["a re-export", "base/time.ts", `export { crds } from "../api/crd.ts";`, "../api/crd.ts"],
    [
      "an adapter of the store in a pure file",
      "releases/decide.ts",
      `import type { createAzureStore } from "../store/azure-store.ts";`,
      "../store/azure-store.ts",
    ],
    [
      "the runtime in a pure file",
      "rollouts/report/report.ts",
      `import { SETTLED } from "../../runtime/outcome.ts";`,
      "../../runtime/outcome.ts",
    ],
    [
      "the shell of its own room in a pure file",
      "rollouts/decide.ts",
      `import type { Deps } from "./act.ts";`,
      "./act.ts",
    ],
    [
      "what remembers between two passes in a pure file",
      "releases/decide.ts",
      `import type { Turns } from "./reverify-slots.ts";`,
      "./reverify-slots.ts",
    ],
    [
      "a folder of the verifier in one above it",
      "verifier/score/timing.ts",
      `import type { GoldenMeasured } from "../protocol/messages.ts";`,
      "../protocol/messages.ts",
    ],
    [
      "a deeper folder of the verifier in one above it",
      "verifier/score/classes/scoring.ts",
      `import type { GoldenMeasured } from "../../protocol/messages.ts";`,
      "../../protocol/messages.ts",
    ],
    [
      "the child process in the sidecar",
      "verifier/process/model-process.ts",
      `import { openModel } from "../child/session.ts";`,
      "../child/session.ts",
    ],
    [
      "the sidecar in the child process",
      "verifier/child/main.ts",
      `import type { Sandbox } from "../process/sandbox.ts";`,
      "../process/sandbox.ts",
    ],
    [
      "a check in what runs it",
      "verifier/process/sandbox.ts",
      `import type { Run } from "../checks/check.ts";`,
      "../checks/check.ts",
    ],
    [
      "the server in a check",
      "verifier/checks/run.ts",
      `import type { Jobs } from "../service/jobs.ts";`,
      "../service/jobs.ts",
    ],
    [
      "ONNX Runtime outside the child process",
      "verifier/protocol/messages.ts",
      `import type { InferenceSession } from "onnxruntime-node";`,
      "onnxruntime-node",
    ],
    ["files in what only computes", "verifier/score/timing.ts", `import "node:fs";`, "node:fs"],
    ["a file of a shell's name in a folder", "rollouts/report/act.ts", "await act();", "await"],
    ["a promise in a pure file", "rollouts/decide.ts", "export async function decide() {}", "async"],
    ["the clock in a pure file", "rollouts/evidence/judge.ts", "const now = Date.now();", "Date"],
    ["chance in a pure file", "api/membership.ts", "const bucket = Math.random();", "Math.random"],
  ])("%s", (_, path, text, culprit) => {
    expect(faultsOf({ path, text }).join()).toContain(culprit);
  });

  test.each<[string, string, string]>([
    ["a port as a type", "devices/act.ts", `import type { DeviceHub } from "../hub/hub.ts";`],
    [
      "a port as a type in a pure file",
      "releases/seen.ts",
      `import type { BlobFacts } from "../store/store.ts";`,
    ],
    ["a file of its own room", "devices/decide.ts", `import { tagsOf } from "./tags.ts";`],
    [
      "a word in a comment or a text",
      "rollouts/evidence/judge.ts",
      `// async: no\n/* await */ const text = "a Promise, a Date";`,
    ],
    [
      "an identifier that contains the word",
      "rollouts/evidence/judge.ts",
      "const updateDate = 1, asynchronous = 2;",
    ],
  ])("not %s", (_, path, text) => {
    expect(faultsOf({ path, text })).toEqual([]);
  });

  test.each([
    ["hub/query/query.ts", `import type { Job } from "../jobs/job.ts";`, "../jobs/job.ts"],
    ["hub/messaging/telemetry.ts", `import type { Hub } from "../hub.ts";`, "../hub.ts"],
    ["http/routes/operation.ts", `import { createServer } from "../server.ts";`, "../server.ts"],
    ["elsewhere/file.ts", "", "elsewhere is not in the table"],
  ])("a folder of the simulator that looks up: %s", (path, text, culprit) => {
    expect(faultsOfSimulatorOrder({ path, text })).toEqual([culprit]);
  });

  test("a simulator that leans on the operator", () => {
    const text = `import type { Twin } from "../src/hub/hub.ts";`;
    expect(faultsOfSimulator({ path: "twin.ts", text })).toEqual(["../src/hub/hub.ts"]);
    expect(
      faultsOfSimulator({ path: "devices/twin.ts", text: `import "../../src/operator-settings.ts";` }),
    ).toHaveLength(1);
    const contract = `import { CONTRACT } from "../src/api/device-contract.ts";`;
    expect(faultsOfSimulator({ path: "device.ts", text: contract })).toEqual([]);
  });
});

function faultsOf(source: Source): readonly string[] {
  const { path, text } = source;
  const imports = importsOf(text).flatMap((one) => {
    const fault = one.target.startsWith(".") ? faultOfFile(path, one) : faultOfPackage(path, one.target);
    return fault === null ? [] : [fault];
  });
  const words = isPure(path) ? (withoutText(text).match(IMPURE) ?? []) : [];
  return [...imports, ...words.map((word) => `${word} in a pure file`)];
}

function faultOfFile(path: string, { target, values }: Import): string | null {
  const file = posix.join(posix.dirname(path), target).replace(/\.ts$/, "");
  const home = roomOf(path);
  if (roomOf(file) === home) {
    if (isPure(path) && !isPure(`${file}.ts`)) return `${target} is not pure`;
    return mayImportFolder(folderOf(path), folderOf(file)) ? null : `${target} is not for this folder`;
  }
  const allowed = isPure(path) && home !== "api" ? PURE_MAY_IMPORT : (MAY_IMPORT[home] ?? []);
  if (file.includes("/") && allowed.includes(roomOf(file))) return null;
  if (!allowed.includes(file)) return `${target} is not for this file`;
  return values.length === 0 ? null : `${target} is a port: ${values.join(", ")} is a value of it`;
}

function mayImportFolder(folder: string, other: string): boolean {
  return folder === other || !(folder in FOLDERS) || (FOLDERS[folder] ?? []).includes(posix.basename(other));
}

function faultOfPackage(path: string, target: string): string | null {
  const allowed = Object.entries(MAY_USE).flatMap(([start, packages]) =>
    path.startsWith(start) ? packages : [],
  );
  const known = allowed.some((name) => (name === "node:" ? target.startsWith(name) : isOrIsIn(target, name)));
  return known ? null : `${target} is not for this file`;
}

/** What the simulator shares with us: the contract that both keep, and how any program of ours reads its command line. */
const OURS_FOR_SIMULATOR = ["src/api/device-contract.ts", "src/base/flags.ts"];

function faultsOfSimulator({ path, text }: Source): readonly string[] {
  return importsOf(text)
    .map(({ target }) => target)
    .filter((target) => target.startsWith("."))
    .filter((target) => {
      const file = posix.join("simulator", posix.dirname(path), target);
      return !file.startsWith("simulator/") && !OURS_FOR_SIMULATOR.includes(file);
    });
}

/** Other rooms and folders of the simulator that a room or folder may import; `hub` stands for all of the hub. */
const SIMULATOR_MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  hub: ["base"],
  "hub/twins": ["base"],
  "hub/limits": ["base"],
  "hub/registry": ["base", "hub/twins"],
  "hub/query": ["base", "hub/twins", "hub/registry"],
  "hub/configurations": ["base", "hub/twins", "hub/registry", "hub/query"],
  "hub/faults": ["base", "hub/limits"],
  "hub/messaging": ["base", "hub/twins", "hub/registry", "hub/limits"],
  "hub/jobs": ["base", "hub/twins", "hub/registry", "hub/query", "hub/limits", "hub/messaging"],
  state: ["base", "hub"],
  mqtt: ["base", "hub"],
  devices: ["base", "hub", "mqtt"],
  "devices/edge": ["base", "hub", "mqtt", "devices/effects.ts"],
  "reference-device": ["base", "devices"],
  scenario: ["base", "hub", "devices"],
  http: ["base", "hub"],
  "http/transport": ["base", "hub"],
  "http/routes": ["base", "hub", "http/transport"],
  "http/control": ["base", "hub", "devices", "scenario", "http/transport"],
};
/** What every folder of the hub may use. */
const HUB_SHARED = ["errors", "undocumented", "persistence", "preconditions", "sas"].map(
  (name) => `hub/${name}.ts`,
);

/** Imports, of types too, that do not go the way of the table. */
function faultsOfSimulatorOrder({ path, text }: Source): readonly string[] {
  const home = posix.dirname(path);
  if (home === "." || home === "testing") return [];
  const allowed = SIMULATOR_MAY_IMPORT[home];
  if (allowed === undefined) return [`${home} is not in the table`];
  const shared = home.startsWith("hub/") ? HUB_SHARED : [];
  return importsOf(text)
    .map(({ target }) => target)
    .filter((target) => target.startsWith("."))
    .filter((target) => {
      const file = posix.join(posix.dirname(path), target);
      if (file.startsWith("..") || posix.dirname(file).startsWith(home)) return false;
      return ![...allowed, ...shared].some((one) => isOrIsIn(file, one));
    });
}

/** Rooms, files and packages of ours that the program for people may use. */
const CLI_MAY_IMPORT = [
  ...["src/base/", "src/api/", "src/verifier/", "src/verification/", "src/runtime/clock.ts"],
  ...["cli/", "node:", "typebox", "yaml"],
];

function faultsOfCli({ path, text }: Source): readonly string[] {
  return importsOf(text)
    .map(({ target }) => target)
    .filter((target) => {
      const named = target.startsWith(".") ? posix.join("cli", posix.dirname(path), target) : target;
      return !CLI_MAY_IMPORT.some((start) =>
        start.endsWith("/") || start === "node:" ? named.startsWith(start) : isOrIsIn(named, start),
      );
    });
}

/** Code without comments and quoted texts: words in them mean nothing. */
function withoutText(text: string): string {
  return text.replaceAll(/"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, " ");
}

function isOrIsIn(target: string, name: string): boolean {
  return target === name || target.startsWith(`${name}/`);
}

/** The room and the folder in it, as the keys of FOLDERS are: deeper ones belong to them. */
function folderOf(path: string): string {
  return posix.dirname(path).split("/").slice(0, 2).join("/");
}

function roomOf(path: string): string {
  return path.split("/")[0] ?? "";
}

function isPure(path: string): boolean {
  return roomOf(path) === "api" || (DOMAIN_ROOMS.includes(roomOf(path)) && !SHELL.includes(path));
}
