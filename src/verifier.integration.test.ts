import { execFileSync } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { platform, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  type BlobServer,
  refuseWith,
  SIGNATURE,
  serveBlob,
  startBlobServer,
} from "../test/builders/verifier/blob-server.ts";
import { endlessModel, linearClassifier } from "../test/builders/verifier/onnx-model.ts";
import { type Program, runProgram } from "../tools/stack/program.ts";
import type { Verification } from "./api/model-release.ts";
import { createVerifierClient } from "./verification/client.ts";
import { keyOf } from "./verification/key.ts";
import type {
  Download,
  VerificationKey,
  Verifier,
  VerifyReport,
  VerifyRequest,
} from "./verification/verification.ts";

// The program as it runs in a pod: a process of its own, which is asked over its socket, stopped and killed.

const SIGNAL = new AbortController().signal;
const MAIN = join(import.meta.dirname, "verifier.ts");
const TIMEOUT = 120_000;

type Life = { readonly program: Program; readonly client: Verifier; readonly version: string };

let directory: string;
let socket: string;
let blobs: BlobServer;
let lives: Program[] = [];
let serial = 0;

beforeAll(async () => {
  blobs = await startBlobServer();
  directory = await mkdtemp(join(tmpdir(), "verifier-"));
});
afterEach(async () => {
  for (const program of lives) program.kill("SIGKILL");
  await Promise.all(lives.map(({ ended }) => ended));
  lives = [];
});
afterAll(async () => {
  await blobs.stop();
  await rm(directory, { recursive: true });
});

function run(workdir: string, more: readonly string[] = []): Program {
  serial += 1;
  socket = join(directory, `${serial}.sock`);
  const flags = ["--socket", socket, "--workdir", workdir, "--memory-limit", "512Mi", ...more];
  const logFile = join(directory, "log");
  const program = runProgram({ name: "verifier", args: [MAIN, ...flags], env: {}, logFile });
  lives.push(program);
  return program;
}

/** Serves, once this resolves. */
async function live(workdir: string, more: readonly string[] = []): Promise<Life> {
  const program = run(workdir, more);
  const client = createVerifierClient({ socketPath: socket });
  for (;;) {
    const version = await client.version(SIGNAL);
    if (version.ok) return { program, client, version: version.value };
    const ended = await Promise.race([program.ended, sleep(20, null)]);
    if (ended !== null) throw new Error(`it ended with ${ended}: ${await readFile(join(directory, "log"))}`);
  }
}

/** A good model; another one for each `salt`, of about that many bytes. */
function good(salt: number, bytes = 1000): Buffer {
  const weights = [1, 2, 3, 4].map((row) => [row, salt, 0]);
  return linearClassifier({ weights, bias: [0, 0, salt] }, { padding: new Uint8Array(bytes).fill(salt) });
}

function requestFor(bytes: Uint8Array, over: Partial<VerifyRequest> = {}): VerifyRequest {
  const model = blobs.put(bytes);
  const checks = { timeout: "1m" as Verification["timeout"] };
  return { tenant: "plant-a", model, golden: null, parity: null, variantParity: null, checks, ...over };
}

/** A run of it never ends: its latency is asked for. */
function endless(over: Partial<VerifyRequest> = {}): VerifyRequest {
  const p95 = "1s" as Verification["timeout"];
  const timeout = "50s" as Verification["timeout"];
  const latency = { p95, warmup: 0, samples: 20, batchSize: 1, threads: 1 } as const;
  return requestFor(endlessModel(), { checks: { timeout, latency }, ...over });
}

async function begin({ client, version }: Life, request: VerifyRequest): Promise<VerificationKey> {
  const key = keyOf(request, version);
  expect(await client.start(key, request, SIGNAL)).toEqual({ ok: true, value: undefined });
  return key;
}

async function look({ client }: Life, key: VerificationKey): Promise<VerifyReport | null> {
  const found = await client.look(key, SIGNAL);
  if (!found.ok) throw new Error(found.error.message);
  return found.value;
}

async function until(
  life: Life,
  key: VerificationKey,
  is: (report: VerifyReport) => boolean,
): Promise<VerifyReport> {
  for (;;) {
    const report = await look(life, key);
    if (report === null) throw new Error("it is not known");
    if (is(report)) return report;
    await sleep(5);
  }
}

const isOver = (report: VerifyReport) => report.kind !== "running";
const at = (check: string) => (report: VerifyReport) => report.kind === "running" && report.check === check;

async function verdictOn(life: Life, request: VerifyRequest): Promise<VerifyReport> {
  return await until(life, await begin(life, request), isOver);
}

/** A blob that is sent once the test says so. */
function held(bytes: Uint8Array): { readonly model: Download; readonly send: () => void } {
  const gate = Promise.withResolvers<void>();
  return {
    model: blobs.put(bytes, (...args) => void gate.promise.then(() => serveBlob(...args))),
    send: gate.resolve,
  };
}

/** Processes of models of that verifier, also when it is gone: by what their command line says. */
function children(workdir: string): readonly string[] {
  return globSync("/proc/[0-9]*/cmdline").filter((path) => {
    try {
      const command = readFileSync(path, "utf8");
      return command.includes("verifier/child/main") && command.includes(workdir);
    } catch {
      return false;
    }
  });
}

async function filesIn(workdir: string): Promise<readonly string[]> {
  return (await readdir(workdir, { recursive: true })).sort();
}

function ask(path: string): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath: socket, path }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    request.on("error", reject);
    request.end();
  });
}

test(
  "after kill -9 a verdict is there as before, what ran is to be asked again, and nothing else is left",
  async () => {
    const workdir = join(directory, "killed");
    const first = await live(workdir);
    const model = requestFor(good(1));
    const key = await begin(first, model);
    const verdict = await until(first, key, isOver);
    expect(verdict).toMatchObject({ kind: "passed" });
    const full = await ask(`/v1/verifications/${key}/report`);
    const running = await begin(first, endless());
    await until(first, running, at("Latency"));
    expect(children(workdir)).toHaveLength(1);
    first.program.kill("SIGKILL");
    await first.program.ended;

    const second = await live(workdir);
    expect(await look(second, key)).toEqual(verdict);
    expect(await ask(`/v1/verifications/${key}/report`)).toEqual(full);
    expect(await look(second, running)).toBeNull();
    await expect.poll(() => children(workdir)).toEqual([]);
    // Another question about the same bytes: they are not downloaded again.
    const again = { ...model, checks: { timeout: "59s" as Verification["timeout"] } };
    expect(await verdictOn(second, again)).toMatchObject({ kind: "passed" });
    expect(blobs.requests(model.model)).toBe(1);
    const metrics = (await ask("/metrics")).body;
    expect(metrics).toContain('edgefleet_verifier_cache_requests_total{result="hit"} 1');
    expect(metrics).toContain("edgefleet_verifier_results 2");

    // Of no file of the workdir, and of no line of the log, is a URL or its signature a part.
    const files = (await filesIn(workdir)).map((name) => join(workdir, name));
    expect(files.map((name) => name.replace(/[0-9a-f]{64}/, "…").slice(workdir.length + 1))).toEqual([
      "blobs",
      "blobs/blob-…",
      "blobs/blob-…",
      "results",
      "results/….json",
      "results/….json",
    ]);
    for (const path of [...files.filter((name) => /\.json$/.test(name)), join(directory, "log")]) {
      const text = await readFile(path, "utf8");
      expect(text).not.toContain(SIGNATURE);
      expect(text).not.toContain("127.0.0.1");
    }
  },
  TIMEOUT,
);

test(
  "killed again and again while it downloads, caches and writes verdicts, it comes to every verdict in the end",
  async () => {
    const workdir = join(directory, "storm");
    const asked = Array.from({ length: 7 }, (_, salt) => requestFor(good(salt, 400_000)));
    const known = new Map<VerificationKey, VerifyReport>();
    for (const killedAfter of [0, 100, null]) {
      const life = await live(workdir, ["--cache-size", "2Mi"]);
      const keys = asked.map((request) => keyOf(request, life.version));
      // The last ones may be lost with the process that had yet to write them; what is there is as it was reported.
      const there = await Promise.all(
        [...known].map(async ([key, before]) => ({ before, now: await look(life, key) })),
      );
      for (const { before, now } of there) expect([null, before]).toContainEqual(now);
      expect(there.filter(({ now }) => now === null).length).toBeLessThanOrEqual(1);
      for (const request of asked) await begin(life, request);
      const enough = killedAfter === null ? asked.length : known.size + 2;
      while (known.size < enough) {
        for (const key of keys) {
          const report = await look(life, key);
          if (report !== null && report.kind !== "running") known.set(key, report);
        }
      }
      if (killedAfter === null) continue;
      await sleep(killedAfter);
      life.program.kill("SIGKILL");
      await life.program.ended;
    }
    expect([...known.values()].map(({ kind }) => kind)).toEqual(asked.map(() => "passed"));
    const left = await filesIn(workdir);
    expect(left.filter((name) => /part|verification-/.test(name))).toEqual([]);
    const sizes = await Promise.all(
      left
        .filter((name) => name.startsWith("blobs/"))
        .map(async (name) => (await stat(join(workdir, name))).size),
    );
    expect(sizes.length).toBeGreaterThan(1);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(2 * 2 ** 20);
    expect(children(workdir)).toEqual([]);
  },
  TIMEOUT,
);

test(
  "SIGTERM ends it within five seconds, whatever runs and is downloaded, and leaves nothing of that",
  async () => {
    const workdir = join(directory, "stopped");
    const life = await live(workdir, ["--probe-address", "127.0.0.1:0"]);
    const { model, send } = held(endlessModel());
    const key = await begin(life, endless({ model }));
    // While that one is downloaded, the next is fetched ahead, from a store that does not answer.
    const slow = blobs.put(good(20), () => undefined);
    await begin(life, requestFor(good(20), { model: slow }));
    await expect.poll(() => blobs.requests(slow)).toBe(1);
    send();
    await until(life, key, at("Latency"));
    const ready = await ask("/readyz");
    expect([ready.status, ready.body]).toEqual([200, '{"status":"ready"}']);
    // Another one does not begin in the same place.
    const { ended: refused } = run(workdir);
    expect(await refused).toBe(1);
    expect(await readFile(join(directory, "log"), "utf8")).toContain(`another verifier uses ${workdir}`);
    const before = Date.now();
    life.program.kill("SIGTERM");
    expect(await life.program.ended).toBe(0);
    expect(Date.now() - before).toBeLessThan(5000);
    expect(await filesIn(workdir)).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/part|verification-/)]),
    );
    expect(children(workdir)).toEqual([]);
  },
  TIMEOUT,
);

test(
  "probes and metrics are served over TCP where that is asked for",
  async () => {
    const log = join(directory, "log");
    const before = (await readFile(log, "utf8").catch(() => "")).length;
    await live(join(directory, "probed"), ["--probe-address", "127.0.0.1:0"]);
    const portOf = async () => /"port":(\d+)/.exec((await readFile(log, "utf8")).slice(before))?.[1];
    await expect.poll(portOf).toBeDefined();
    const url = `http://127.0.0.1:${await portOf()}`;
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect(await (await fetch(`${url}/metrics`)).text()).toContain("edgefleet_verifier_ready 1");
    expect((await fetch(`${url}/v1/version`)).status).toBe(404);
  },
  TIMEOUT,
);

test(
  "the next model is fetched while another one is, and a fresh url replaces one that is denied by then",
  async () => {
    const life = await live(join(directory, "ahead"));
    const { model, send } = held(good(30));
    const first = await begin(life, requestFor(good(30), { model }));
    const second = requestFor(good(31));
    const secondKey = await begin(life, second);
    await expect.poll(() => blobs.requests(second.model)).toBe(1);
    const third = requestFor(good(32));
    const denied = blobs.put(good(32), refuseWith(403, "AuthenticationFailed"));
    const thirdKey = await begin(life, { ...third, model: denied });
    await begin(life, third);
    expect(await look(life, thirdKey)).toEqual({ kind: "running", check: "Waiting" });
    send();
    for (const key of [first, secondKey, thirdKey])
      expect(await until(life, key, isOver)).toMatchObject({ kind: "passed" });
    expect([second.model, denied, third.model].map((one) => blobs.requests(one))).toEqual([1, 0, 1]);
  },
  TIMEOUT,
);

describe.runIf(platform() === "linux" && process.getuid?.() === 0)("on a disk that is full", () => {
  test(
    "cached files make room for the next model, and verdicts are given all the same",
    async () => {
      const workdir = join(directory, "small");
      await mkdir(workdir);
      execFileSync("/bin/mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", workdir]);
      try {
        const life = await live(workdir);
        for (const salt of [40, 41, 42, 43])
          expect(await verdictOn(life, requestFor(good(salt, 400_000)))).toMatchObject({ kind: "passed" });
        expect((await ask("/metrics")).body).toMatch(/edgefleet_verifier_cache_evictions_total [1-9]/);
        expect(await verdictOn(life, requestFor(good(44, 1_200_000)))).toMatchObject({
          kind: "error",
          message: expect.stringMatching(/ENOSPC$/),
        });
        expect(await verdictOn(life, requestFor(good(45)))).toMatchObject({ kind: "passed" });
        await life.program.stop();
      } finally {
        for (const program of lives) program.kill("SIGKILL");
        await Promise.all(lives.map(({ ended }) => ended));
        execFileSync("/bin/umount", [workdir]);
      }
    },
    TIMEOUT,
  );
});
