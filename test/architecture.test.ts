import { globSync, readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { describe, expect, test } from "vitest";

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
  "verifier/": ["node:"],
  "verifier/files/archive": ["tar-stream"],
  "verifier/child/": ["onnxruntime-node"],
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
type Source = { readonly path: string; readonly text: string };

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

  test.each(rooms)("src/$path keeps to the table", (source) => {
    expect(faultsOf(source)).toEqual([]);
  });

  test.each(simulator)(
    "simulator/$path knows nothing of us but the device contract and how flags are read",
    (source) => {
      expect(faultsOfSimulator(source)).toEqual([]);
    },
  );
});

describe("the program for people", () => {
  test.each(cli)("cli/$path knows what is verified, and nothing of clusters and hubs", (source) => {
    expect(faultsOfCli(source)).toEqual([]);
  });

  test.each([
    [`import { parseConfig } from "../src/config.ts";`, "../src/config.ts"],
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
    ["a main in a room", "kube/lease.ts", `import { parseConfig } from "../config.ts";`, "../config.ts"],
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

  test("a simulator that leans on the operator", () => {
    const text = `import type { Twin } from "../src/hub/hub.ts";`;
    expect(faultsOfSimulator({ path: "twin.ts", text })).toEqual(["../src/hub/hub.ts"]);
    expect(
      faultsOfSimulator({ path: "devices/twin.ts", text: `import "../../src/config.ts";` }),
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
  if (roomOf(file) === home) return isPure(path) && !isPure(`${file}.ts`) ? `${target} is not pure` : null;
  const allowed = isPure(path) && home !== "api" ? PURE_MAY_IMPORT : (MAY_IMPORT[home] ?? []);
  if (file.includes("/") && allowed.includes(roomOf(file))) return null;
  if (!allowed.includes(file)) return `${target} is not for this file`;
  return values.length === 0 ? null : `${target} is a port: ${values.join(", ")} is a value of it`;
}

function faultOfPackage(path: string, target: string): string | null {
  const allowed = Object.entries(MAY_USE).flatMap(([start, packages]) =>
    path.startsWith(start) ? packages : [],
  );
  const known = allowed.some((name) => (name === "node:" ? target.startsWith(name) : isOrIsIn(target, name)));
  return known ? null : `${target} is not for this file`;
}

/** What the simulator shares with us: the contract that both keep, and how any program of ours reads its command line. */
const SIMULATOR_MAY_IMPORT = ["src/api/device-contract.ts", "src/base/flags.ts"];

function faultsOfSimulator({ path, text }: Source): readonly string[] {
  return importsOf(text)
    .map(({ target }) => target)
    .filter((target) => target.startsWith("."))
    .filter((target) => {
      const file = posix.join("simulator", posix.dirname(path), target);
      return !file.startsWith("simulator/") && !SIMULATOR_MAY_IMPORT.includes(file);
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

type Import = {
  readonly target: string;
  /** Names that are imported as values; `*` stands for all or for none by name. */
  readonly values: readonly string[];
};

const STATEMENT = /^[ \t]*(?:import|export)\s+(type\s+)?([^"';()=]*?)\s*from\s*"([^"]+)"/gm;
const EFFECT = /^[ \t]*import\s*"([^"]+)"/gm;
const LATER = /\bimport\(\s*"([^"]+)"\s*\)/g;

function importsOf(text: string): readonly Import[] {
  const statements = [...text.matchAll(STATEMENT)].map(([, type, names = "", target = ""]) => ({
    target,
    values: type === undefined ? valuesIn(names) : [],
  }));
  const others = [...text.matchAll(EFFECT), ...text.matchAll(LATER)];
  return [...statements, ...others.map(([, target = ""]) => ({ target, values: ["*"] }))];
}

/** `{ type A, b as c }` → b; `d, * as e` → d, *. */
function valuesIn(names: string): readonly string[] {
  return names
    .replaceAll(/[{}]/g, "")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "" && !name.startsWith("type "))
    .map((name) => name.split(/\s/, 1)[0] ?? name);
}

/** Code without comments and quoted texts: words in them mean nothing. */
function withoutText(text: string): string {
  return text.replaceAll(/"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, " ");
}

function isOrIsIn(target: string, name: string): boolean {
  return target === name || target.startsWith(`${name}/`);
}

function roomOf(path: string): string {
  return path.split("/")[0] ?? "";
}

function isPure(path: string): boolean {
  return roomOf(path) === "api" || (DOMAIN_ROOMS.includes(roomOf(path)) && !SHELL.includes(path));
}

function sourcesIn(directory: string): readonly Source[] {
  return globSync("**/*.ts", { cwd: join(ROOT, directory) })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => !path.endsWith(".test.ts"))
    .sort()
    .map((path) => ({ path, text: readFileSync(join(ROOT, directory, path), "utf8") }));
}
