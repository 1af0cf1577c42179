import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FLAG_NAMES, helpText, parseCommandLine } from "./command-line.ts";
import type { Endpoint } from "./simulator.ts";
import { connectRegistry, type Registry, statusOf } from "./testing/service-client.ts";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "simulator-"));
});
const children = new Set<ChildProcess>();
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await rm(directory, { recursive: true, force: true });
});

function run(...args: readonly string[]) {
  const child: ChildProcess = spawn(process.execPath, [join(import.meta.dirname, "main.ts"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { out: "", err: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    output.out += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    output.err += text;
  });
  children.add(child);
  const exit = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  void exit.then(() => children.delete(child));
  return { child, output, exit };
}

test("it says in one line where it is, serves, and ends when it is asked to", async () => {
  const caFile = join(directory, "ca.crt");
  const behaviours = join(directory, "behaviours.yaml");
  await writeFile(behaviours, "- match: {site: plant-a}\n  effects: {slowDownload: 5s}\n");
  const { child, output, exit } = run(
    "--port",
    "0",
    "--tier=S3",
    "--ca-out",
    caFile,
    "--behaviours",
    behaviours,
  );
  if (child.stdout === null) throw new Error("no output");
  const line = await new Promise<string>((resolve) =>
    createInterface({ input: child.stdout! }).once("line", resolve),
  );
  const ready = JSON.parse(line) as {
    port: number;
    hostName: string;
    caFile: string;
    connectionString: string;
  };
  expect(ready).toMatchObject({ hostName: "simhub.azure-devices.net", caFile });
  const registry = connectRegistry({ ...ready, ca: await readFile(caFile, "utf8") });
  expect((await registry.create({ deviceId: "cam-1" })).responseBody.deviceId).toBe("cam-1");
  child.kill("SIGTERM");
  expect(await exit).toBe(0);
  expect(output.out.trim().split("\n")).toEqual([line]);
});

test("all mistakes of a command line are reported at once, with status 2", async () => {
  const { output, exit } = run("--port", "x", "--foo", "--tier", "S9", "--virtual-clock=yes", "--seed");
  expect(await exit).toBe(2);
  expect(output.out).toBe("");
  for (const part of [
    "--port must",
    "--foo is not known",
    "--tier must",
    "--virtual-clock takes no value",
    "--seed needs a value",
  ])
    expect(output.err).toContain(part);
});

test("flags become options", () => {
  const parsed = parse(
    "--report-interval 2s --state-delay=0s --untargeted-layer keep --real-downloads all --no-devices --virtual-clock --agent-modules a,b --download skip --device-ca a.pem --device-ca=b.pem --session-subscriptions cloud-to-device".split(
      " ",
    ),
  );
  expect(parsed).toMatchObject({
    kind: "run",
    command: {
      virtualClock: true,
      behavioursFile: null,
      scenarioFile: null,
      caFile: null,
      deviceCaFiles: ["a.pem", "b.pem"],
      stateFile: null,
      options: {
        reportInterval: 2000,
        stateDelay: 0,
        untargetedLayer: "keep",
        realDownloads: null,
        autoStart: false,
        agentModules: ["a", "b"],
        download: "skip",
        sessionSubscriptions: "cloud-to-device",
      },
    },
  });
  expect(parse(["--help"])).toEqual({ kind: "help" });
});

test("names that no client could use are refused", () => {
  expect(parse(["--host-name", "my hub", "--agent-modules", "a b,,c", "--host-name=-a"])).toEqual({
    kind: "wrong",
    problems: [
      "--host-name must be a name of letters, digits, hyphens and dots",
      "--host-name must be a name of letters, digits, hyphens and dots",
      "--agent-modules must be ids of modules with commas between them",
    ],
  });
});

test("the help has every flag once, under a subject", () => {
  const help = helpText();
  const shown = [...help.matchAll(/^ {2}(?:-h, )?(--[a-z-]+)/gm)].map(([, name]) => name);
  expect(new Set(shown).size).toBe(shown.length);
  const known = FLAG_NAMES.map((name) => `--${name}`);
  expect(shown.sort()).toEqual([...known, "--config", "--print-config", "--version", "--help"].sort());
});

test("a flag that is not known is reported with the one that may be meant", () => {
  expect(parse(["--sate", "x", "--evaluation-intervall=5s", "--frobnicate"])).toEqual({
    kind: "wrong",
    problems: [
      "--sate is not known; did you mean --state?",
      "--evaluation-intervall is not known; did you mean --evaluation-interval?",
      "--frobnicate is not known",
    ],
  });
});

describe("a file of settings", () => {
  const FILE = `
reportInterval: 2s
port: 8443
noThrottling: true
noDevices: false
agentModules: [a, b]
deviceCa: [a.pem, /etc/b.pem]
state: hub.state
behaviours:
  - {name: slow, effects: {slowDownload: 5s}}
devices: {count: 3, prefix: cam-}
`;

  test("has the flags' names in camel case, and files beside it; flags win", () => {
    const parsed = parse(["--config", "/etc/sim/a.yaml", "--port", "1"], FILE);
    expect(parsed).toMatchObject({
      command: {
        deviceCaFiles: ["/etc/sim/a.pem", "/etc/b.pem"],
        stateFile: "/etc/sim/hub.state",
        options: { reportInterval: 2000, port: 1, throttling: false, agentModules: ["a", "b"] },
        inline: { behaviours: [{ name: "slow" }], devices: { count: 3 } },
      },
    });
    expect(parsed).not.toHaveProperty("command.options.autoStart");
    const overruled = parse(["--config", "/etc/sim/a.yaml", "--device-ca", "c.pem"], FILE);
    expect(overruled).toHaveProperty("command.deviceCaFiles", ["c.pem"]);
  });

  test("has all its mistakes reported at once, those of the flags with them", () => {
    const file = "reportIntervall: 2s\nport: many\nnoThrottling: 1\ntier: {}\nseed: -1\n";
    expect(parse(["--config=a.yaml", "--seed", "1", "--units", "x"], file)).toMatchObject({
      problems: [
        "a.yaml: reportIntervall is not known; did you mean reportInterval?",
        "a.yaml: port must be a whole number from 0 to 65535",
        "a.yaml: noThrottling must be true or false",
        "a.yaml: tier must be a text or a number",
        "a.yaml: seed must be a whole number from 0 to 4294967295",
        "--units must be a whole number from 1 to 200",
      ],
    });
    expect(parse(["--config", "a.yaml"], "- a")).toMatchObject({
      problems: ["--config a.yaml: must be an object of settings"],
    });
    expect(parse(["--config", "gone.yaml"])).toMatchObject({
      problems: ["--config gone.yaml: no such file"],
    });
  });

  test("is what --print-config prints", () => {
    const printed = parse(["--config", "/etc/sim/a.yaml", "--port", "1", "--print-config"], FILE);
    if (printed.kind !== "printConfig") throw new Error(JSON.stringify(printed));
    expect(printed.text).toContain("evaluationInterval: 300s\n");
    const again = parse(["--config", "elsewhere.yaml", "--print-config"], printed.text);
    expect(again).toEqual(printed);
    expect(parse(["--config", "elsewhere.yaml"], printed.text)).toMatchObject({
      command: {
        deviceCaFiles: ["/etc/sim/a.pem", "/etc/b.pem"],
        options: { port: 1, reportInterval: 2000 },
      },
    });
  });
});

test("a new hub begins with the devices and configurations of the file; one with a state does not", async () => {
  const config = join(directory, "fleet.yaml");
  await writeFile(
    config,
    [
      "state: fleet.state",
      "noDevices: true",
      "devices:",
      "  - {id: edge-1, iotEdge: true, tags: {site: a}, modules: [m]}",
      "  - {count: 3, prefix: cam-, status: disabled}",
      "configurations:",
      "  - {id: all, targetCondition: '*', content: {deviceContent: {properties.desired.level: 3}}}",
      "faults:",
      "  - {kind: status, status: 500, operations: [query]}",
    ].join("\n"),
  );
  const first = await started("--config", config);
  const ids = async ({ registry }: { readonly registry: Registry }) =>
    ((await registry.list()).responseBody as unknown as { deviceId: string }[]).map(
      ({ deviceId }) => deviceId,
    );
  expect(await ids(first)).toEqual(["edge-1", "cam-1", "cam-2", "cam-3"]);
  expect((await first.registry.getModulesOnDevice("edge-1")).responseBody).toHaveLength(3);
  const twin = (await first.registry.getTwin("edge-1")).responseBody;
  expect(twin).toMatchObject({ tags: { site: "a" }, properties: { desired: { level: 3 } } });
  expect(await statusOf(first.registry.createQuery("SELECT * FROM devices").next())).toBe(500);
  await first.registry.delete("cam-2");
  first.child.kill("SIGTERM");
  expect(await first.exit).toBe(0);
  const second = await started("--config", config);
  expect(await ids(second)).toEqual(["edge-1", "cam-1", "cam-3"]);
  second.child.kill("SIGTERM");
  expect(await second.exit).toBe(0);
});

test("mistakes in what a hub begins with, in faults and in behaviours are reported at once, with status 2", async () => {
  const config = join(directory, "wrong.yaml");
  await writeFile(
    config,
    [
      "devices: [{id: 'a b'}, {count: 2}, {id: c, colour: red}, {id: d, tags: {a.b: 1}}]",
      "configurations: [{id: Upper}]",
    ].join("\n"),
  );
  const { output, exit } = run("--config", config);
  expect(await exit).toBe(2);
  for (const part of [
    /devices\[0\]: deviceId "a b" must/,
    /devices\[1\]\.id is needed, or count and prefix/,
    /devices\[2\]\.colour is not known/,
    /devices\[3\]: .*tags\.a\.b/,
    /configurations\[0\]: .*lower-case/,
  ])
    expect(output.err).toMatch(part);
  await writeFile(config, "faults: [{kind: status}]\nbehaviours: [{effects: 1}]\n");
  const other = run("--config", config);
  expect(await other.exit).toBe(2);
  expect(other.output.err).toMatch(/faults\[0\]: status/);
  expect(other.output.err).toMatch(/behaviours\[0\]\.effects must be an object/);
});

test("what keeps it from starting is reported with what to do, with status 1", async () => {
  const first = await started("--state", join(directory, "locked.state"));
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [["--port", String(first.ready.port)], /^port [0-9]+ of 127\.0\.0\.1 is in use: give another one/],
    [["--state", join(directory, "locked.state")], /locked\.state is in use by another simulator/],
    [["--address", "192.0.2.1"], /^--address is none of this machine/],
    [["--ca-out", join(directory, "missing", "ca.crt")], /^--ca-out .* cannot be written/],
  ];
  for (const [args, problem] of cases) {
    const { output, exit } = run(...args);
    expect(await exit).toBe(1);
    expect(output.err).toMatch(problem);
    expect(output.out).toBe("");
  }
  first.child.kill("SIGINT");
  expect(await first.exit).toBe(0);
});

test("the command of the package runs from any directory, and says its version", async () => {
  const manifest = JSON.parse(await readFile(join(import.meta.dirname, "../package.json"), "utf8"));
  const command = join(import.meta.dirname, "..", manifest.bin["edgefleet-simulator"]);
  const { stdout } = await promisify(execFile)(command, ["--version"], {
    cwd: directory,
    env: { PATH: dirname(process.execPath) + delimiter + process.env["PATH"] },
  });
  expect(stdout).toBe(`edgefleet-simulator ${manifest.version}\n`);
});

async function started(...args: readonly string[]) {
  const program = run(...args);
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: program.child.stdout! }).once("line", resolve);
    void program.exit.then(() => reject(new Error(program.output.err)));
  });
  const ready = JSON.parse(line) as Endpoint;
  return { ...program, ready, registry: connectRegistry(ready) };
}

function parse(args: readonly string[], file: string | null = null) {
  return parseCommandLine(args, () => {
    if (file === null) throw new Error("no such file");
    return file;
  });
}
