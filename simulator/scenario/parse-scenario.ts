import { isMap, LineCounter, parseDocument } from "yaml";
import { ANY, type Fields, readFields } from "../base/fields.ts";
import { globMatcher } from "../base/glob.ts";
import { isObject, type JsonObject, type JsonValue } from "../base/json.ts";
import { type Behaviour, parseBehaviours } from "../devices/behaviour.ts";
import { parseFault } from "../hub/faults/fault-rules.ts";
import { type CloudMessageDraft, DEFAULT_LIFETIME } from "../hub/messaging/cloud-messages.ts";
import { readContent } from "../hub/messaging/message-content.ts";

export type Devices = { readonly glob: string; readonly matches: (deviceId: string) => boolean };

/** What a step does. Times are milliseconds. */
export type Action =
  /** As it was written: how long it lasts counts from the moment of the step. */
  | { readonly kind: "fault"; readonly written: JsonObject }
  /** These in place of those that were there. */
  | { readonly kind: "behaviours"; readonly behaviours: readonly Behaviour[] }
  | { readonly kind: "evaluate" }
  | { readonly kind: "disable" | "enable" | "delete"; readonly devices: Devices }
  | { readonly kind: "message"; readonly devices: Devices; readonly draft: CloudMessageDraft }
  /** `null`: all faults. */
  | { readonly kind: "clearFaults"; readonly id: string | null };

export type Step = {
  readonly name: string;
  /** An operation or class, as the counters name them, whose first success the step waits for; `null`: none. */
  readonly after: string | null;
  /** From the start of the scenario, or from what the step waits for. */
  readonly at: number;
  /** `null`: once. */
  readonly every: number | null;
  /** `null`: without end. */
  readonly times: number | null;
  readonly actions: readonly Action[];
};

export type Scenario = { readonly name: string; readonly seed: number; readonly steps: readonly Step[] };

export type ParsedScenario =
  | { readonly ok: true; readonly scenario: Scenario }
  | { readonly ok: false; readonly problems: readonly string[] };

export const ACTIONS = [
  "fault",
  "behaviours",
  "evaluate",
  "disable",
  "enable",
  "delete",
  "message",
  "clearFaults",
] as const satisfies readonly Action["kind"][];

/** A scenario as YAML, which JSON is too. Every mistake is reported at once, with its line. */
export function parseScenario(text: string, seed: number): ParsedScenario {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const lineOf = (offset: number) => `line ${lines.linePos(offset).line}`;
  if (document.errors.length > 0)
    return {
      ok: false,
      problems: document.errors.map(({ message, pos }) => `${lineOf(pos[0])}: ${message}`),
    };
  let written: JsonValue;
  try {
    written = document.toJS() as JsonValue;
  } catch (problem) {
    return { ok: false, problems: [problem instanceof Error ? problem.message : String(problem)] };
  }
  const problems: string[] = [];
  const scenario = readScenario(written, seed, problems);
  if (scenario !== null && problems.length === 0) return { ok: true, scenario };
  return { ok: false, problems: problems.map((problem) => `${lineOf(placeOf(problem))}: ${problem}`) };

  /** Where the deepest thing begins that a problem's path leads to. */
  function placeOf(problem: string): number {
    const path = pathOf(problem);
    for (let depth = path.length; depth > 0; depth--) {
      const parent = document.getIn(path.slice(0, depth - 1), true);
      const pair = isMap(parent)
        ? parent.items.find(({ key }) => String(key) === String(path[depth - 1]))
        : undefined;
      const node = pair?.key ?? document.getIn(path.slice(0, depth), true);
      const range = isObjectWithRange(node) ? node.range : null;
      if (range != null) return range[0];
    }
    return document.contents?.range?.[0] ?? 0;
  }
}

function isObjectWithRange(
  node: unknown,
): node is { readonly range: readonly [number, number, number] | null | undefined } {
  return node !== null && typeof node === "object" && "range" in node;
}

/** `steps[2].fault.kind must be …` → `["steps", 2, "fault", "kind"]` */
function pathOf(problem: string): readonly (string | number)[] {
  const [path = ""] = problem.split(" ");
  return [...path.matchAll(/\[([0-9]+)\]|([^.[\]]+)/g)].map(([, index, name = ""]) =>
    index === undefined ? name : Number(index),
  );
}

function readScenario(written: JsonValue, seed: number, problems: string[]): Scenario | null {
  if (!isObject(written)) {
    problems.push("a scenario must be an object with steps");
    return null;
  }
  const fields = readFields(written, "", problems);
  const name = fields.text("name", "scenario");
  const chosen = fields.number("seed", seed, { least: 0, most: 4_294_967_295 });
  const list = fields.raw("steps");
  if (!Array.isArray(list) || list.length === 0)
    fields.addProblem("steps", "must be a list of at least one step");
  const steps = (Array.isArray(list) ? (list as readonly JsonValue[]) : []).flatMap((step, index) => {
    const path = `steps[${index}]`;
    if (isObject(step)) return [readStep(step, path, { seed: chosen, problems })];
    problems.push(`${path} must be an object`);
    return [];
  });
  fields.done();
  const names = steps.map((step) => step.name);
  steps.forEach((step, index) => {
    if (names.indexOf(step.name) < index)
      problems.push(`steps[${index}].name ${step.name} is that of another step too`);
  });
  return { name, seed: chosen, steps };
}

type About = { readonly seed: number; readonly problems: string[] };

function readStep(written: JsonObject, path: string, about: About): Step {
  const fields = readFields(written, path, about.problems);
  const name = fields.text("name", path);
  const after = fields.optionalText("after");
  const at = fields.optionalDuration("at");
  if (fields.raw("at") === undefined && fields.raw("after") === undefined)
    fields.addProblem("at", "is needed: a duration from the start, or after: an operation to wait for");
  if (at !== null && at < 0) fields.addProblem("at", "must not be negative");
  const every = fields.optionalDuration("every");
  if (every !== null && every <= 0) fields.addProblem("every", "must be more than nothing");
  const times = fields.optionalNumber("times", { ...ANY, least: 1 });
  if (times !== null && !Number.isInteger(times)) fields.addProblem("times", "must be a whole number");
  if (fields.raw("times") !== undefined && fields.raw("every") === undefined)
    fields.addProblem("every", "is needed where there are times");
  // They are done in the order in which they are written.
  const wanted = Object.keys(written).flatMap((key) => ACTIONS.filter((action) => action === key));
  const actions = wanted.map((kind) => readAction(fields, kind, { ...about, path }));
  if (wanted.length === 0) about.problems.push(`${path} does nothing: it needs one of ${ACTIONS.join(", ")}`);
  fields.done();
  return { name, after, at: at ?? 0, every, times, actions };
}

function readAction(
  fields: Fields,
  kind: Action["kind"],
  { seed, problems, path }: About & { readonly path: string },
): Action {
  const written = fields.raw(kind);
  switch (kind) {
    case "fault": {
      const parsed = isObject(written)
        ? parseFault(written, { now: 0, id: () => "", path: `${path}.fault` })
        : null;
      if (parsed === null) fields.addProblem(kind, "must be an object");
      else if (!parsed.ok) problems.push(...parsed.problems);
      return { kind, written: isObject(written) ? written : {} };
    }
    case "behaviours": {
      const isList = Array.isArray(written);
      if (!isList) fields.addProblem(kind, "must be a list of behaviours");
      const parsed = parseBehaviours(isList ? (written as JsonValue) : [], seed);
      if (!parsed.ok) problems.push(...parsed.problems.map((problem) => `${path}.${problem}`));
      return { kind, behaviours: parsed.ok ? parsed.behaviours : [] };
    }
    case "evaluate":
      if (written !== true) fields.addProblem(kind, "must be true");
      return { kind };
    case "disable":
    case "enable":
    case "delete":
      return { kind, devices: devicesOf(fields, kind) };
    case "message":
      return readMessage(fields);
    case "clearFaults": {
      if (written !== true && typeof written !== "string")
        fields.addProblem(kind, "must be true, or the id of a fault");
      return { kind, id: typeof written === "string" ? written : null };
    }
  }
}

function readMessage(fields: Fields): Action {
  const inner = fields.inner("message");
  const empty = { body: Buffer.alloc(0), properties: {} };
  const devices = inner === null ? { glob: "", matches: () => false } : devicesOf(inner, "devices");
  const content = inner === null ? empty : readContent(inner);
  const lifetime = inner?.duration("expiresIn", DEFAULT_LIFETIME) ?? DEFAULT_LIFETIME;
  return { kind: "message", devices, draft: { ...content, lifetime } };
}

function devicesOf(fields: Fields, name: string): Devices {
  const glob = fields.optionalText(name);
  if (glob === null && fields.raw(name) === undefined)
    fields.addProblem(name, "is needed: a glob of device ids");
  return { glob: glob ?? "", matches: globMatcher(glob ?? "") };
}
