import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { createRandom } from "../base/random.ts";
import type { Endpoint } from "../simulator.ts";
import { connectRegistry, type Registry } from "../testing/service-client.ts";

const KILLS = 20;
const DEVICES = ["cam-1", "cam-2", "cam-3"];
const directory = await mkdtemp(join(tmpdir(), "simulator-kill-"));
const children = new Set<ChildProcess>();

// A test that fails leaves nothing behind either.
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await rm(directory, { recursive: true, force: true });
});

type Acknowledged = {
  /** By device: the last write that was answered, and the last that was sent. */
  readonly twins: Map<
    string,
    { readonly acknowledged: number; readonly etag: string; readonly sent: number }
  >;
  /** By device: the key that the hub gave it. */
  readonly identities: Map<string, string>;
  /** Priority of the configuration: as it was answered, and as it was sent. */
  priority: { readonly acknowledged: number; readonly sent: number };
  /** Called at every answer. */
  answered: () => void;
};

async function start(state: string) {
  const main = join(import.meta.dirname, "../main.ts");
  const child = spawn(
    process.execPath,
    [main, "--state", state, "--no-devices", "--no-throttling", "--evaluation-delay", "1h"],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  children.add(child);
  const exit = new Promise<void>((resolve) => child.once("close", () => resolve()));
  void exit.then(() => children.delete(child));
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    void exit.then(() => reject(new Error("it ended before it was ready")));
  });
  const ready = JSON.parse(line) as Endpoint;
  return { child, exit, ready };
}

/** Each write is one of a pair: tags and desired properties have the same number, or the twin is torn. */
async function patchForEver(registry: Registry, id: string, known: Acknowledged): Promise<void> {
  for (;;) {
    const { acknowledged, etag, sent } = known.twins.get(id) ?? { acknowledged: 0, etag: "", sent: 0 };
    const n = sent + 1;
    known.twins.set(id, { acknowledged, etag, sent: n });
    const { responseBody } = await registry.updateTwin(
      id,
      { tags: { n }, properties: { desired: { n } } } as never,
      "*",
    );
    known.twins.set(id, { acknowledged: n, etag: responseBody.etag, sent: n });
    known.answered();
  }
}

async function createForEver(registry: Registry, round: number, known: Acknowledged): Promise<void> {
  for (let made = 0; ; made++) {
    const { responseBody } = await registry.create({ deviceId: `new-${round}-${made}` });
    const key = responseBody.authentication?.symmetricKey?.primaryKey ?? "";
    known.identities.set(responseBody.deviceId, key);
    known.answered();
  }
}

async function configureForEver(registry: Registry, known: Acknowledged): Promise<void> {
  for (;;) {
    const { acknowledged, sent } = known.priority;
    const priority = sent + 1;
    known.priority = { acknowledged, sent: priority };
    const { responseBody } = await registry.getConfiguration("level");
    await registry.updateConfiguration({ ...responseBody, priority, labels: { n: String(priority) } }, true);
    known.priority = { acknowledged: priority, sent: priority };
    known.answered();
  }
}

function answersOf(known: Acknowledged, count: number): Promise<void> {
  let left = count;
  return new Promise((resolve) => {
    known.answered = () => {
      left -= 1;
      if (left === 0) resolve();
    };
  });
}

async function check(registry: Registry, known: Acknowledged, context: string): Promise<void> {
  for (const [id, { acknowledged, etag, sent }] of known.twins) {
    const twin = (await registry.getTwin(id)).responseBody;
    const n = Number((twin.tags as Record<string, unknown>)["n"] ?? 0);
    expect(n, `${context}: ${id} has an answered write`).toBeGreaterThanOrEqual(acknowledged);
    expect(n, `${context}: ${id} has nothing that was not written`).toBeLessThanOrEqual(sent);
    expect(twin.properties.desired["n"], `${context}: ${id} is not torn`).toBe(n === 0 ? undefined : n);
    if (n === acknowledged && acknowledged > 0) expect(twin.etag, `${context}: etag of ${id}`).toBe(etag);
    known.twins.set(id, { acknowledged: n, etag: twin.etag, sent: Math.max(n, 0) });
  }
  const all = (await registry.list()).responseBody as unknown as {
    readonly deviceId: string;
    readonly authentication: { readonly symmetricKey: { readonly primaryKey: string } };
  }[];
  const keys = new Map(all.map((one) => [one.deviceId, one.authentication.symmetricKey.primaryKey]));
  for (const [id, key] of known.identities) expect(keys.get(id), `${context}: key of ${id}`).toBe(key);
  expect(new Set(keys.values()).size, `${context}: no key twice`).toBe(keys.size);
  const level = (await registry.getConfiguration("level")).responseBody;
  expect(level.priority, `${context}: priority`).toBeGreaterThanOrEqual(known.priority.acknowledged);
  expect(level.labels?.["n"], `${context}: the configuration is not torn`).toBe(String(level.priority));
  known.priority = { acknowledged: level.priority ?? 0, sent: level.priority ?? 0 };
  // The list of identities ends at a thousand.
  for (const id of known.identities.keys()) await registry.delete(id);
  known.identities.clear();
}

test("killed at any moment while clients write, it comes back with all that was answered", async () => {
  const seed = Date.now() % 1_000_000;
  const random = createRandom(seed);
  const state = join(directory, "hub.state");
  const known: Acknowledged = {
    twins: new Map(),
    identities: new Map(),
    priority: { acknowledged: 0, sent: 0 },
    answered: () => {},
  };
  let ca: string | null = null;
  let kills = 0;
  for (let round = 0; round <= KILLS; round++) {
    const { child, exit, ready } = await start(state);
    // The authority of the first life is trusted to the last.
    ca ??= ready.ca;
    const registry = connectRegistry({ ...ready, ca });
    if (round === 0) {
      for (const deviceId of DEVICES) await registry.create({ deviceId });
      const content = { deviceContent: { "properties.desired.level": 3 } };
      const configuration = { id: "level", content, targetCondition: "*", priority: 0, labels: { n: "0" } };
      await registry.addConfiguration(configuration as never);
    } else await check(registry, known, `seed ${seed}, kill ${round}`);
    if (round < KILLS) {
      // However slow the machine is, every life has answered some writes, and others are under way when it ends.
      const enough = answersOf(known, 3 + Math.floor(random() * 20));
      const writers = [
        ...DEVICES.map((id) => patchForEver(registry, id, known)),
        createForEver(registry, round, known),
        configureForEver(registry, known),
      ];
      const ended = Promise.allSettled(writers);
      await Promise.race([enough, ended]);
      await wait(random() * 20);
      expect(child.exitCode, "it lived until it was killed").toBeNull();
      child.kill("SIGKILL");
      kills += 1;
      await ended;
    } else child.kill("SIGKILL");
    await exit;
  }
  expect(kills).toBe(KILLS);
  for (const id of DEVICES) expect(known.twins.get(id)?.acknowledged, `${id} was written`).toBeGreaterThan(0);
  expect(known.priority.acknowledged).toBeGreaterThan(0);
}, 300_000);
