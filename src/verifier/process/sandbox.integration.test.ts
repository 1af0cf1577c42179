import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { withoutPermissions } from "../../../test/builders/verifier/sandbox.ts";
import { seconds } from "../../base/time.ts";
import { type ModelProcess, startModelProcess } from "./model-process.ts";
import { buildSandbox, type Sandbox, type SandboxSession } from "./sandbox.ts";

// Each restriction is tried by a child that breaks it. Where the machine lacks one, the test expects it to be listed as lacking; root on
// Linux lacks none, unless it was left without the capability for it, as in a container.

const PROGRAM = join(import.meta.dirname, "../../../test/builders/verifier/hostile-child.ts");
const PROGRAM_FILE = join(import.meta.dirname, "../../../test/builders/verifier/sandbox.ts");
const LIMITS = { memoryBytes: 512 * 2 ** 20, deadline: seconds(50), threads: 1 };
const SIGNAL = new AbortController().signal;

let directory: string;
let sandbox: Sandbox;
let session: SandboxSession;
let tcp: Server;
let unix: Server;
/** Behind all features; behind all but Node's own, which would be met first; and behind none. */
let walled: ModelProcess;
let native: ModelProcess;
let free: ModelProcess;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sandbox-test-"));
  sandbox = await buildSandbox();
  const own = join(directory, "verification");
  await mkdir(own);
  session = await sandbox.prepare(own);
  await writeFile(join(own, "model.onnx"), "model", { mode: 0o640 });
  await mkdir(join(directory, "other"), { mode: 0o700 });
  await writeFile(join(directory, "other", "model.onnx"), "other", { mode: 0o640 });
  tcp = createServer().listen(0, "127.0.0.1");
  unix = createServer().listen(join(directory, "sidecar.sock"));
  await Promise.all([once(tcp, "listening"), once(unix, "listening")]);
  await chmod(join(directory, "sidecar.sock"), 0o660);
  process.env["EDGEFLEET_TEST_SECRET"] = "hidden";
  [walled, native, free] = await Promise.all([
    start(session),
    start(withoutPermissions(session)),
    start({ ...session, command: (program) => [process.execPath, program] }),
  ]);
});

afterAll(async () => {
  await Promise.all([walled, native, free].map((child) => child.end()));
  await session.sweep();
  tcp.close();
  unix.close();
  await rm(directory, { recursive: true, force: true });
});

test("this machine has all features, or says of each that it lacks why", () => {
  const missing = Object.entries(sandbox.features).flatMap(([feature, there]) => (there ? [] : [feature]));
  // `orphans` comes and goes with `privileges`.
  expect(sandbox.lacking.map((why) => why.split(":")[0])).toEqual(missing.filter((one) => one !== "orphans"));
  if (mayDoAll()) expect(missing).toEqual([]);
  else process.stdout.write(`restrictions that are not tried here: ${sandbox.lacking.join("; ")}\n`);
});

describe("a model's process", () => {
  test("reaches no network, not even that of its own machine", async () => {
    if (lacks("network")) return;
    const { port } = tcp.address() as AddressInfo;
    expect(await does(free, `connect ${port}`)).toBe("connected");
    expect(await does(native, `connect ${port}`)).toBe("ENETUNREACH");
    const devices = [...(await does(native, "show /proc/net/dev")).matchAll(/^ *(\S+):/gm)];
    expect(devices.map(([, name]) => name)).toEqual(["lo"]);
  });

  test("cannot speak to the sidecar, read its memory, environment and files, or send it a signal", async () => {
    if (lacks("user")) return;
    const sidecar = process.pid;
    expect(await does(free, `socket ${join(directory, "sidecar.sock")}`)).toBe("connected");
    expect(await does(native, `socket ${join(directory, "sidecar.sock")}`)).toBe("EACCES");
    for (const file of ["environ", "maps", "mem", "auxv"])
      expect(await does(native, `read /proc/${sidecar}/${file}`)).toBe("EACCES");
    expect(await does(native, `list /proc/${sidecar}/fd`)).toBe("EACCES");
    expect(await does(native, `signal ${sidecar}`)).toBe("EPERM");
    expect(await does(free, `read /proc/${sidecar}/environ`)).toBe("read true");
  });

  test("reads its own model, and none of another verification", async () => {
    if (lacks("user")) return;
    expect(await does(walled, "show ../model.onnx")).toBe("model");
    expect(await does(native, "show ../model.onnx")).toBe("model");
    expect(await does(native, `read ${join(directory, "other", "model.onnx")}`)).toBe("EACCES");
    expect(await does(native, "list ..")).toBe("EACCES");
  });

  test("is in an empty directory, in which it can make nothing", async () => {
    expect(await does(native, "list .")).toBe("");
    expect(await does(native, "create here")).toBe("EACCES");
    expect(await does(native, "create ../there")).toBe("EACCES");
    expect(await does(native, "append ../model.onnx")).toBe("EACCES");
  });

  test("writes into no file, wherever it is", async () => {
    const open = join(tmpdir(), `sandbox-test-${process.pid}`);
    await writeFile(open, "");
    await chmod(open, 0o666);
    try {
      expect(await does(native, `append ${open}`)).toBe("EFBIG");
      expect(await does(free, `append ${open}`)).toBe("undefined");
      expect((await stat(open)).size).toBe(1);
    } finally {
      await rm(open);
    }
  });

  test("has no environment of ours", async () => {
    expect(await does(native, "environment")).toBe("MALLOC_TRIM_THRESHOLD_,ORT_DISABLE_TELEMETRY,PWD");
  });

  test("has no privileges, and cannot switch to another user", async () => {
    if (lacks("user")) return;
    const status = await does(native, "show /proc/self/status");
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    for (const set of ["Inh", "Prm", "Eff", "Bnd", "Amb"])
      expect(status).toMatch(new RegExp(`^Cap${set}:\\t0+$`, "m"));
    const user = Number(await does(native, "user"));
    expect(user).toBeGreaterThanOrEqual(61_184);
    expect(user).toBeLessThan(65_520);
    expect(status).toMatch(new RegExp(`^Gid:\\t${user}\\t${user}\\t${user}\\t${user}$`, "m"));
    expect(status).toMatch(/^Groups:\t *$/m);
  });

  test("has limits", async () => {
    const limits = await does(native, "show /proc/self/limits");
    const at = (name: string) => new RegExp(`^${name} +(\\S+) +(\\S+)`, "m").exec(limits)?.slice(1, 3);
    expect(at("Max core file size")).toEqual(["0", "0"]);
    expect(at("Max file size")).toEqual(["0", "0"]);
    expect(at("Max open files")).toEqual(["64", "64"]);
    expect(at("Max processes")).toEqual(["65", "65"]);
    expect(at("Max cpu time")).toEqual(["160", "165"]);
  });

  test("starts only so many processes, and none outlives it", async () => {
    if (lacks("processes")) return;
    const child = await start(withoutPermissions(session));
    const marker = 7000 + (process.pid % 1000);
    expect(await does(child, `forks ${marker}`)).toMatch(/^EAGAIN after [1-5]?\d$/);
    expect(sleepers(marker)).not.toEqual([]);
    await child.end();
    await expect.poll(() => sleepers(marker)).toEqual([]);
  });

  test("is not waited for when another process holds its pipes, and processes that left its group are ended", async () => {
    if (lacks("user")) return;
    const place = join(directory, "left");
    await mkdir(place);
    const left = await sandbox.prepare(place);
    const child = await start(withoutPermissions(left));
    const marker = 8000 + (process.pid % 1000);
    expect(await child.ask({ kind: "load", path: `leave ${marker}`, threads: 1 })).toMatchObject({
      ok: false,
      error: { kind: "crashed", message: "its process exited with code 0" },
    });
    await child.end();
    expect(sleepers(marker)).toHaveLength(1);
    await left.sweep();
    await expect.poll(() => sleepers(marker)).toEqual([]);
    expect(await does(free, "user")).toBe(String(process.getuid?.()));
  });

  test("has Node's own permissions besides: no processes, no threads, no files but its own", async () => {
    expect(await does(free, "spawn true")).toMatch(/^\d+$/);
    for (const deed of [
      "spawn true",
      "worker",
      "create here",
      "write /tmp/sandbox-test",
      "read /etc/passwd",
      "list /",
      `read ${join(directory, "other", "model.onnx")}`,
    ])
      expect([deed, await does(walled, deed)]).toEqual([deed, "ERR_ACCESS_DENIED"]);
  });
});

test("a verification's directory is the sidecar's; its group is the model's user alone", async () => {
  if (lacks("user")) return;
  const place = join(directory, "modes");
  await mkdir(place);
  const prepared = await sandbox.prepare(place);
  expect((await stat(place)).mode & 0o7777).toBe(0o2710);
  expect((await stat(place)).gid).toBeGreaterThanOrEqual(61_184);
  expect((await stat(prepared.cwd)).mode & 0o777).toBe(0o555);
  expect(await readdir(prepared.cwd)).toEqual([]);
});

test("a sidecar that is not root restricts its models as far as the system lets any user", async () => {
  const place = join(directory, "unprivileged");
  await mkdir(place);
  await chmod(directory, 0o755);
  await chmod(place, 0o777);
  const own = mayDoAll() ? ["setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups", "--"] : [];
  const [file = "", ...args] = [...own, process.execPath, PROGRAM_FILE];
  const { stdout } = await promisify(execFile)(file, [...args, place, PROGRAM]);
  const { features, lacking, came } = JSON.parse(stdout) as {
    readonly features: Sandbox["features"];
    readonly lacking: readonly string[];
    readonly came: Readonly<Record<string, string>>;
  };
  expect(features).toMatchObject({
    limits: true,
    user: false,
    privileges: true,
    orphans: true,
    permissions: true,
  });
  expect(lacking).toContain("user: only root can give a model a user of its own");
  expect(came["create here"]).toBe("EACCES");
  expect(came["append ../model.onnx"]).toBe("EFBIG");
  // Where only root may have a namespace, the pod's rules are all that there is.
  if (features.network) {
    expect(came["connect 1"]).toBe("ENETUNREACH");
    expect(came["read environ"]).toBe("EACCES");
    expect(came["forks 1"]).toMatch(/^EAGAIN after [1-5]?\d$/);
  } else expect(lacking.join("; ")).toContain("network: ");
});

test("a model that hears nothing dies with a sidecar that is killed", async () => {
  if (lacks("orphans")) return;
  const place = join(directory, "killed");
  await mkdir(place);
  const sidecar = spawn(process.execPath, [PROGRAM_FILE, place, PROGRAM, "for ever"]);
  const [line] = (await once(sidecar.stdout, "data")) as [Buffer];
  const status = `/proc/${Number(line.toString())}/status`;
  const state = () =>
    existsSync(status) ? /^State:\t(\S)/m.exec(readFileSync(status, "utf8"))?.[1] : "gone";
  // It will never notice that its channel has closed.
  await expect.poll(state).toBe("T");
  sidecar.kill("SIGKILL");
  await once(sidecar, "exit");
  // A zombie has ended, and only waits to be collected.
  await expect.poll(state).toMatch(/^(gone|Z)$/);
});

/** Root, with CAP_SYS_ADMIN (21) among the capabilities that it has. */
function mayDoAll(): boolean {
  const held = /^CapEff:\t(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return process.getuid?.() === 0 && (BigInt(`0x${held}`) & (1n << 21n)) !== 0n;
}

/** The first test says which, and why. */
function lacks(feature: keyof Sandbox["features"]): boolean {
  return !sandbox.features[feature];
}

async function start(where: SandboxSession): Promise<ModelProcess> {
  const started = await startModelProcess(LIMITS, where, SIGNAL, PROGRAM);
  if (!started.ok) throw new Error(JSON.stringify(started.error));
  return started.value;
}

async function does(child: ModelProcess, deed: string): Promise<string> {
  const answer = await child.ask({ kind: "load", path: deed, threads: 1 });
  if (!answer.ok || answer.value.kind !== "broken") throw new Error(JSON.stringify(answer));
  return answer.value.message;
}

/** Processes that sleep for so many seconds: a number that no other process uses. */
function sleepers(marker: number): readonly string[] {
  return globSync("/proc/[0-9]*/cmdline").filter((path) => {
    try {
      return readFileSync(path, "utf8") === `sleep\0${marker}\0`;
    } catch {
      return false;
    }
  });
}
