import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { servedDefinitions } from "../test/builders/served-definitions.ts";
import {
  type Answer,
  json,
  type Received,
  refusal,
  type ScriptedServer,
  startScriptedServer,
} from "../test/fakes/scripted-server.ts";
import { type Program, runProgram } from "../tools/stack/program.ts";

// The program as it runs in a pod, behind an API server that speaks HTTP/1.1 only: one request at a time on a connection.

const MAIN = join(import.meta.dirname, "operator.ts");
/** A process that starts on a busy machine takes its time; nothing here is asserted to be quick. */
const TIMEOUT = 300_000;
const POLL = 50;

let directory: string;
let programs: Program[] = [];
let servers: ScriptedServer[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "operator-"));
});
afterEach(async () => {
  for (const program of programs) program.kill("SIGKILL");
  await Promise.all(programs.map(({ ended }) => ended));
  for (const server of servers) await server.close();
  programs = [];
  servers = [];
});
afterAll(async () => {
  await rm(directory, { recursive: true });
});

/** Empty lists, watches on which nothing ever happens, and one Lease, answered once `leases` has resolved. */
function emptyCluster(leases: Promise<void>): Answer {
  let lease: unknown = null;
  let version = 0;
  const ofLease = (request: Received): Answer => {
    if (request.method === "GET") return lease === null ? refusal(404, "NotFound") : json(200, lease);
    version += 1;
    const spec =
      request.method === "POST"
        ? (request.body as { spec: unknown }).spec
        : (request.body as { value: unknown }[])[1]?.value;
    lease = { metadata: { resourceVersion: String(version) }, spec };
    return json(request.method === "POST" ? 201 : 200, lease);
  };
  return async (response, request) => {
    if (request.path.includes("/leases")) {
      await leases;
      return ofLease(request)(response, request);
    }
    if (request.path.startsWith("/openapi/")) return json(200, servedDefinitions())(response, request);
    if (!request.query.has("watch"))
      return json(200, { metadata: { resourceVersion: "1" }, items: [] })(response, request);
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
  };
}

async function start(flags: readonly string[], leases = Promise.resolve()) {
  const server = await startScriptedServer(emptyCluster(leases));
  servers.push(server);
  const name = `${programs.length}-${servers.length}`;
  const kubeconfig = join(directory, `${name}.kubeconfig`);
  const logFile = join(directory, `${name}.log`);
  await writeFile(kubeconfig, server.config.exportConfig());
  const program = runProgram({
    name: "operator",
    args: [
      MAIN,
      ...["--kubeconfig", kubeconfig, "--hub-endpoint", "127.0.0.1:9", "--cluster-id", "c"],
      ...["--verifier-socket", join(directory, "none.sock"), ...flags],
    ],
    env: {
      EDGEFLEET_HUB_CONNECTION_STRING:
        "HostName=hub.example.test;SharedAccessKeyName=operator;SharedAccessKey=a2V5",
      EDGEFLEET_STORAGE_CONNECTION_STRING:
        "DefaultEndpointsProtocol=http;AccountName=store;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:9/store;",
    },
    logFile,
  });
  programs.push(program);
  const read = () => readFile(logFile, "utf8").catch(() => "");
  const lines = async () => {
    return (await read())
      .split("\n")
      .flatMap((line) => (line.startsWith("{") && line.endsWith("}") ? [JSON.parse(line)] : []));
  };
  return {
    server,
    program,
    lines,
    logged: (text: string) => until(async () => (await read()).includes(text)),
  };
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(POLL);
}

test("with eleven namespaces it leads, is ready only because it can lead, and ends on SIGTERM", {
  timeout: TIMEOUT,
}, async () => {
  const namespaces = Array.from({ length: 11 }, (_, i) => `plant-${i}`).join(",");
  const leases = Promise.withResolvers<void>();
  const { server, program, lines, logged } = await start(
    ["--namespaces", namespaces, "--probe-address", "127.0.0.1:0"],
    leases.promise,
  );
  await logged("serving probes");
  const port = (await lines()).find(({ message }) => message === "serving probes")?.port;
  const answers = new Set<string>();
  const answersWith = (text: string) =>
    until(async () => {
      const answer = await (await fetch(`http://127.0.0.1:${port}/readyz`)).text();
      answers.add(answer);
      return answer.includes(text);
    });
  await answersWith("the Lease has not been read yet");
  expect(answers).not.toContain("ok\n");
  leases.resolve();
  await answersWith("ok");
  await logged('"leading"');
  // One for each kind of ours in each namespace, and one for each Namespace.
  const watched = () =>
    new Set(
      server.received
        .filter(({ query }) => query.has("watch"))
        .map(({ path, query }) => `${path} ${query.get("fieldSelector")}`),
    ).size;
  await until(async () => watched() === 44);
  program.kill("SIGTERM");
  expect(await program.ended).toBe(0);
  await logged('"stopped"');
});

test("an address that is taken is named, with what to do, and the program ends with 2", {
  timeout: TIMEOUT,
}, async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const address = other.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  const { program, logged } = await start(["--probe-address", `127.0.0.1:${port}`]);
  expect(await program.ended).toBe(2);
  await logged(`edge-fleet-operator: --probe-address: 127.0.0.1:${port} cannot be listened on: EADDRINUSE`);
  other.close();
});
