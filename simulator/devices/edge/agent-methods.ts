import { randomUUID } from "node:crypto";
import { gzipSync } from "node:zlib";
import type { SimClock } from "../../base/clock.ts";
import { isObject, type JsonObject, type JsonValue, parseJson } from "../../base/json.ts";
import type { MethodRequest } from "../../hub/messaging/methods.ts";
import {
  type LogQuestion,
  type ModuleLogs,
  readLogQuestion,
  readMoment,
  renderLogs,
  selectLogs,
} from "./module-logs.ts";
import { type Upload, uploadAll } from "./uploads.ts";
import { zipOf } from "./zip.ts";

// The direct methods of `$edgeAgent`. Statuses are the method's own: the hub answers 200 around all of them.

export type MethodAnswer = { readonly status: number; readonly body: string };

type TaskStatus = "NotStarted" | "Running" | "Completed" | "Failed" | "Cancelled" | "Unknown";
type Task = { readonly status: TaskStatus; readonly message: string };
/** By correlation id, in memory: a restart of the agent forgets them. */
export type AgentTasks = Map<string, Task>;

export function createTasks(): AgentTasks {
  return new Map();
}

export type MethodWorld = {
  readonly clock: SimClock;
  readonly iotHub: string;
  readonly deviceId: string;
  readonly logs: ModuleLogs;
  readonly tasks: AgentTasks;
  readonly stopped: AbortSignal;
  /** Whether the module is there; `null`: it was the agent itself, which does not answer. */
  readonly restart: (id: string) => boolean | null;
};

type Method = (payload: JsonObject, world: MethodWorld) => MethodAnswer | null;

const METHODS: Readonly<Record<string, Method>> = {
  RestartModule: (payload, world) => {
    const { id } = payload;
    if (typeof id !== "string" || id === "") return refused(400, "id is needed: the name of a module");
    const restarted = world.restart(id);
    if (restarted === null) return null;
    return restarted ? answered(null) : refused(500, `Module ${id} not found in the current environment`);
  },
  GetModuleLogs: getModuleLogs,
  UploadModuleLogs: uploadModuleLogs,
  UploadSupportBundle: uploadSupportBundle,
  GetTaskStatus: (payload, { tasks }) => {
    const { correlationId } = payload;
    if (typeof correlationId !== "string") return refused(400, "correlationId is needed");
    return taskAnswer(correlationId, tasks.get(correlationId) ?? { status: "Unknown", message: "" });
  },
};
const SUPPORTED = ["ping", ...Object.keys(METHODS)];

/** `null`: there is no answer, and the caller's time runs out. */
export function answerMethod(request: MethodRequest, world: MethodWorld): MethodAnswer | null {
  const name = request.name.toLowerCase();
  if (name === "ping") return answered(null);
  const [, method] = Object.entries(METHODS).find(([known]) => known.toLowerCase() === name) ?? [];
  if (method === undefined)
    return refused(400, `Unknown command ${request.name}. Supported commands: ${SUPPORTED.join(", ")}`);
  const parsed = parseJson(request.body);
  const payload = parsed.ok ? parsed.value : null;
  if (!isObject(payload)) return refused(400, "The payload must be an object with a schemaVersion");
  const wrong = problemOfSchema(payload["schemaVersion"]);
  return wrong === null ? method(payload, world) : refused(400, wrong);
}

/** Another minor version is let through, as the agent does with a warning. */
function problemOfSchema(version: JsonValue | undefined): string | null {
  if (typeof version !== "string") return "schemaVersion is needed: 1.0";
  const [, major] = /^([0-9]+)\.[0-9]+/.exec(version) ?? [];
  if (major === undefined) return `schemaVersion ${version} is not a version: 1.0 is`;
  return major === "1" ? null : `schemaVersion ${version} is not supported: 1.0 is`;
}

/** Bytes of an answer; a hub takes 128 KB, and some of it is the agent's. */
const LARGEST_ANSWER = 127 * 1024;

function getModuleLogs(payload: JsonObject, world: MethodWorld): MethodAnswer {
  const problems: string[] = [];
  const question = readLogQuestion(payload, world.clock.now(), problems);
  if (problems.length > 0) return refused(400, problems.join("; "));
  const logs = rendered(question, world).map(({ module, text }) =>
    question.encoding === "gzip"
      ? { id: module, payloadBytes: gzipSync(text).toString("base64") }
      : { id: module, payload: text },
  );
  const answer = answered(logs);
  if (Buffer.byteLength(answer.body) <= LARGEST_ANSWER) return answer;
  return refused(
    400,
    `The logs have ${Buffer.byteLength(answer.body)} bytes, and an answer may have ${LARGEST_ANSWER}: use encoding gzip or a narrower filter`,
  );
}

function rendered(
  { items, contentType }: Pick<LogQuestion, "items" | "contentType">,
  { logs, iotHub, deviceId }: MethodWorld,
): readonly { readonly module: string; readonly text: string }[] {
  return selectLogs(logs, items).map(({ module, lines }) => ({
    module,
    text: renderLogs(lines, { iotHub, deviceId, module }, contentType),
  }));
}

function uploadModuleLogs(payload: JsonObject, world: MethodWorld): MethodAnswer {
  const problems: string[] = [];
  const question = readLogQuestion(payload, world.clock.now(), problems);
  const container = readSas(payload["sasUrl"], problems);
  if (problems.length > 0 || container === null) return refused(400, problems.join("; "));
  const { encoding, contentType } = question;
  const ending = `${contentType === "json" ? "json" : "log"}${encoding === "gzip" ? ".gz" : ""}`;
  const uploads = rendered(question, world).map(({ module, text }) => ({
    name: `${blobPrefix(world)}/${module}-${timeInName(world)}.${ending}`,
    content: encoding === "gzip" ? gzipSync(text) : Buffer.from(text),
    contentType: encoding === "gzip" ? "application/gzip" : TYPES[contentType],
  }));
  return startTask(container, uploads, world);
}

const TYPES = { text: "text/plain", json: "application/json" } as const;

function uploadSupportBundle(payload: JsonObject, world: MethodWorld): MethodAnswer {
  const problems: string[] = [];
  const now = world.clock.now();
  const since = readMoment(payload["since"], "since", now, problems);
  const until = readMoment(payload["until"], "until", now, problems);
  const runtimeOnly = payload["edgeRuntimeOnly"] ?? false;
  if (typeof runtimeOnly !== "boolean") problems.push("edgeRuntimeOnly must be true or false");
  const container = readSas(payload["sasUrl"], problems);
  if (problems.length > 0 || container === null) return refused(400, problems.join("; "));
  const filter = { since, until, tail: null, loglevel: null, regex: null };
  const id = runtimeOnly === true ? /^edge(Agent|Hub)$/ : /./;
  const files = rendered({ items: [{ id, filter }], contentType: "text" }, world).map(({ module, text }) => ({
    name: `logs/${module}_log.txt`,
    content: Buffer.from(text),
  }));
  const name = `${blobPrefix(world)}/support-bundle-${timeInName(world)}.zip`;
  return startTask(container, [{ name, content: zipOf(files, now), contentType: "application/zip" }], world);
}

function blobPrefix({ iotHub, deviceId }: MethodWorld): string {
  return `${iotHub.split(".")[0] ?? iotHub}/${deviceId}`;
}

function timeInName({ clock }: MethodWorld): string {
  return new Date(clock.now()).toISOString().slice(0, 19).replace("T", "--").replaceAll(":", "-");
}

/** The address of a container with its signature, which is a secret: it is in no answer and no log. */
function readSas(written: JsonValue | undefined, problems: string[]): URL | null {
  try {
    if (typeof written === "string") {
      const url = new URL(written);
      if (["http:", "https:"].includes(url.protocol) && url.searchParams.has("sig")) return url;
    }
  } catch {
    // Said below, without what was written.
  }
  problems.push("sasUrl is needed: the address of a blob container with a signature that allows writing");
  return null;
}

function startTask(container: URL, uploads: readonly Upload[], world: MethodWorld): MethodAnswer {
  const { tasks, clock, stopped } = world;
  const correlationId = randomUUID();
  const running: Task = { status: "Running", message: "" };
  tasks.set(correlationId, running);
  const work = uploadAll(container, uploads, stopped).then((problem) => {
    tasks.set(
      correlationId,
      problem === null ? { status: "Completed", message: "" } : { status: "Failed", message: problem },
    );
  });
  clock.track(work);
  return taskAnswer(correlationId, running);
}

function taskAnswer(correlationId: string, { status, message }: Task): MethodAnswer {
  return answered({ status, message, correlationId });
}

function answered(payload: JsonValue): MethodAnswer {
  return { status: 200, body: payload === null ? "" : JSON.stringify(payload) };
}

function refused(status: number, message: string): MethodAnswer {
  return { status, body: JSON.stringify({ message }) };
}
