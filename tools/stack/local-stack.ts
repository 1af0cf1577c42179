import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { programFile } from "../programs.ts";
import { type Azurite, startAzurite } from "./azurite.ts";
import { killOnExit } from "./exit-guard.ts";
import { type Program, runProgram } from "./program.ts";

/** Everything but the API server, as real processes on this machine: simulator, Azurite, verifier, operators. */
export type LocalStack = {
  /** Sockets, logs and the simulator's CA are in here; removed at `stop` unless it was given. */
  readonly directory: string;
  readonly azurite: Azurite;
  readonly simulator: Program & { readonly port: number; readonly hostName: string };
  readonly verifier: Program;
  /** What an operator needs to reach all of it. */
  readonly operatorEnv: Readonly<Record<string, string>>;
  readonly startOperator: (name: string, args: readonly string[]) => Promise<Operator>;
  /** Asks an operator to stop, and waits until it has. */
  readonly stopOperator: (name: string) => Promise<void>;
  /** Calls the simulator's control API, such as `GET /sim/counters`. */
  readonly control: (method: string, path: string, body?: unknown) => Promise<unknown>;
  readonly stop: () => Promise<void>;
};

export type Operator = Program & {
  /** Port of /healthz, /readyz and /metrics. */
  readonly probePort: number;
  readonly logFile: string;
};

export type StackOptions = {
  readonly kubeconfig: string;
  readonly directory?: string;
  readonly simulatorArgs?: readonly string[];
  readonly verifierArgs?: readonly string[];
  /** How simulated devices behave, as in a behaviours file of the simulator. */
  readonly behaviours?: object;
  /** A folder of bundles (`tools/build.ts`); left out: the programs run from their source. */
  readonly bundles?: string;
  readonly progress?: (line: string) => void;
};

/** As in the image: with V8's own choice the young objects of a cold start take more than all that is kept. */
const OPERATOR_MEMORY = ["--max-semi-space-size=4"];

export async function startLocalStack(options: StackOptions): Promise<LocalStack> {
  const say = options.progress ?? (() => undefined);
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "edgefleet-")));
  await mkdir(directory, { recursive: true });
  const free =
    options.directory === undefined ? killOnExit({ kind: "directory", path: directory }) : () => undefined;
  const started: { readonly name?: string; readonly stop: () => Promise<void> }[] = [];
  const stop = async () => {
    for (const part of started.reverse()) await part.stop();
    if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
    free();
  };
  try {
    say("starting Azurite");
    const azurite = await startAzurite();
    started.push(azurite);

    say("starting the IoT Hub simulator");
    const caFile = join(directory, "simulator-ca.crt");
    const simulator = await startSimulator(directory, caFile, options);
    started.push(simulator);
    const hub = JSON.parse(await simulator.firstLine) as {
      readonly port: number;
      readonly hostName: string;
      readonly connectionString: string;
    };

    say("starting the verifier");
    const socket = join(directory, "verifier.sock");
    const verifier = runProgram({
      name: "verifier",
      args: [
        programFile("verifier", options.bundles),
        "--socket",
        socket,
        "--workdir",
        join(directory, "verifier"),
        ...(options.verifierArgs ?? []),
      ],
      logFile: join(directory, "verifier.log"),
    });
    started.push(verifier);

    const operatorEnv = {
      KUBECONFIG: options.kubeconfig,
      EDGEFLEET_HUB_CONNECTION_STRING: hub.connectionString,
      EDGEFLEET_HUB_ENDPOINT: `127.0.0.1:${hub.port}`,
      EDGEFLEET_HUB_CA: caFile,
      EDGEFLEET_STORAGE_CONNECTION_STRING: azurite.connectionString,
      EDGEFLEET_VERIFIER_SOCKET: socket,
    };
    return {
      directory,
      azurite,
      simulator: { ...simulator, port: hub.port, hostName: hub.hostName },
      verifier,
      operatorEnv,
      stopOperator: async (name) => {
        for (const part of started) if (part.name === name) await part.stop();
      },
      control: (method, path, body) => callControl(hub.port, method, path, body),
      startOperator: async (name, args) => {
        say(`starting ${name}`);
        const operator = await startOperator({
          name,
          args: [programFile("operator", options.bundles), ...args],
          directory,
          env: operatorEnv,
        });
        started.push(operator);
        return operator;
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startSimulator(
  directory: string,
  caFile: string,
  { behaviours, bundles, simulatorArgs = [] }: StackOptions,
): Promise<Program> {
  const behavioursFile = join(directory, "behaviours.json");
  if (behaviours !== undefined) await writeFile(behavioursFile, JSON.stringify(behaviours));
  return runProgram({
    name: "simulator",
    args: [
      ...[programFile("simulator", bundles), "--port", "0", "--ca-out", caFile],
      ...(behaviours === undefined ? [] : ["--behaviours", behavioursFile]),
      ...simulatorArgs,
    ],
    logFile: join(directory, "simulator.log"),
  });
}

async function startOperator(options: {
  readonly name: string;
  readonly args: readonly string[];
  readonly directory: string;
  readonly env: Readonly<Record<string, string>>;
}): Promise<Operator> {
  const logFile = join(options.directory, `${options.name}.log`);
  const program = runProgram({
    name: options.name,
    args: [...OPERATOR_MEMORY, ...options.args, "--probe-address", "127.0.0.1:0"],
    env: options.env,
    logFile,
  });
  // Its first log line says where the probes listen.
  const first = JSON.parse(await program.firstLine) as { readonly port: number };
  return { ...program, probePort: first.port, logFile };
}

async function callControl(port: number, method: string, path: string, body?: unknown): Promise<unknown> {
  const text = body === undefined ? "" : JSON.stringify(body);
  return await new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        host: "127.0.0.1",
        port,
        method,
        path,
        rejectUnauthorized: false,
        headers: { "content-type": "application/json", "content-length": Buffer.byteLength(text) },
      },
      (response) => {
        let answer = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          answer += chunk;
        });
        response.on("end", () => {
          if ((response.statusCode ?? 500) >= 300)
            reject(new Error(`${method} ${path} answered ${response.statusCode}: ${answer.slice(0, 500)}`));
          else resolve(answer === "" ? null : JSON.parse(answer));
        });
      },
    );
    request.on("error", reject);
    request.end(text);
  });
}

/** Looks every `every` milliseconds until `look` gives something; throws with `what` after `within`. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | null | undefined | false>,
  options: { readonly within: number; readonly every?: number },
): Promise<T> {
  const end = Date.now() + options.within;
  let last: unknown = null;
  while (Date.now() < end) {
    try {
      const found = await look();
      if (found !== null && found !== undefined && found !== false) return found;
      last = null;
    } catch (error) {
      last = error;
    }
    await sleep(options.every ?? 200);
  }
  throw new Error(
    `${what}: not within ${options.within / 1000} s${last === null ? "" : ` (${String(last)})`}`,
  );
}
