import { networkInterfaces } from "node:os";
import { afterEach, expect, test } from "vitest";
import { createProbes, type ProbeAnswers } from "./probes.ts";

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

async function start(answers: Partial<ProbeAnswers> = {}, host = "127.0.0.1"): Promise<string> {
  const probes = createProbes(
    { host, port: 0 },
    {
      unready: () => null,
      metrics: async () => "edgefleet_leader 1\n",
      metricsType: "text/plain; version=0.0.4",
      ...answers,
    },
  );
  const stop = new AbortController();
  const ended = probes.run(stop.signal);
  stops.push(async () => {
    stop.abort();
    await ended;
  });
  while (probes.port() === null) await new Promise((resolve) => setImmediate(resolve));
  return `http://127.0.0.1:${probes.port()}`;
}

test("it answers liveness and metrics, and nothing else", async () => {
  const url = await start();
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  const metrics = await fetch(`${url}/metrics?x=1`);
  expect(await metrics.text()).toBe("edgefleet_leader 1\n");
  expect(metrics.headers.get("content-type")).toContain("version=0.0.4");
  expect((await fetch(`${url}/`)).status).toBe(404);
  expect((await fetch(`${url}/healthz/x`)).status).toBe(404);
  expect((await fetch(`${url}/healthz`, { method: "POST" })).status).toBe(405);
});

test("it is ready when its reason for being unready is null", async () => {
  let why: string | null = "caches are not filled";
  const url = await start({ unready: () => Promise.resolve(why) });
  const answer = await fetch(`${url}/readyz`);
  expect([answer.status, await answer.text()]).toEqual([503, "not ready: caches are not filled\n"]);
  why = null;
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
});

test("metrics that cannot be collected are an error of that request only", async () => {
  const url = await start({ metrics: async () => Promise.reject(new Error("no")) });
  expect((await fetch(`${url}/metrics`)).status).toBe(500);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test("a port that is taken is reported at once, and a stopped server releases its port", async () => {
  const url = await start();
  const port = Number(new URL(url).port);
  const answers = { unready: () => null, metrics: async () => "", metricsType: "text/plain" };
  const second = createProbes({ host: "127.0.0.1", port }, answers);
  await expect(second.run(new AbortController().signal)).rejects.toThrow(
    `127.0.0.1:${port} cannot be listened on: EADDRINUSE`,
  );
  await stops.pop()?.();
  await expect(fetch(`${url}/healthz`)).rejects.toThrow();
});

test.each(["", "::"])(
  "listening on %j it is reached over IPv4 and, where there is any, over IPv6",
  async (host) => {
    const hasIpv6 = Object.values(networkInterfaces()).some((all) =>
      all?.some(({ address }) => address === "::1"),
    );
    if (host === "::" && !hasIpv6) return;
    const url = await start({}, host);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    if (hasIpv6) expect((await fetch(`${url.replace("127.0.0.1", "[::1]")}/healthz`)).status).toBe(200);
  },
);
