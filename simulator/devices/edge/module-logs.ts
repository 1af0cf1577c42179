import { isObject, type JsonObject, type JsonValue, ownValue } from "../../base/json.ts";

// What the programs of one edge device have written, and how it is asked for.

export type LogLine = {
  /** Milliseconds since the Unix epoch, by the device's clock. */
  readonly at: number;
  /** As syslog counts: 3 error, 4 warning, 6 information, 7 debugging. */
  readonly level: number;
  readonly text: string;
};

/** Lines that are kept of one module. */
const MOST_LINES = 300;

/** Logs of the modules of one device; the oldest lines make room. */
export type ModuleLogs = Map<string, LogLine[]>;

export function addLine(logs: ModuleLogs, module: string, line: LogLine): void {
  const lines = logs.get(module) ?? [];
  logs.set(module, lines);
  lines.push(line);
  if (lines.length > MOST_LINES) lines.shift();
}

export type LogFilter = {
  readonly tail: number | null;
  readonly since: number | null;
  readonly until: number | null;
  readonly loglevel: number | null;
  readonly regex: RegExp | null;
};

export type LogItem = { readonly id: RegExp; readonly filter: LogFilter };

export type LogQuestion = {
  readonly items: readonly LogItem[];
  readonly encoding: "none" | "gzip";
  readonly contentType: "text" | "json";
};

/** Lines of every module that an item names, in the order of the items; a module that two of them name comes once. */
export function selectLogs(
  logs: ModuleLogs,
  items: readonly LogItem[],
): readonly { readonly module: string; readonly lines: readonly LogLine[] }[] {
  const seen = new Set<string>();
  return items.flatMap(({ id, filter }) =>
    [...logs].flatMap(([module, lines]) => {
      if (seen.has(module) || !id.test(module)) return [];
      seen.add(module);
      return [{ module, lines: filtered(lines, filter) }];
    }),
  );
}

/** Time and tail first, as the container engine does it; level and pattern look at what is left. */
function filtered(lines: readonly LogLine[], filter: LogFilter): readonly LogLine[] {
  const { tail, since, until, loglevel, regex } = filter;
  const inTime = lines.filter(({ at }) => (since === null || at >= since) && (until === null || at <= until));
  const last = tail === null ? inTime : inTime.slice(Math.max(0, inTime.length - tail));
  return last.filter(
    ({ level, text }) => (loglevel === null || level === loglevel) && (regex === null || regex.test(text)),
  );
}

export type LogPlace = { readonly iotHub: string; readonly deviceId: string; readonly module: string };

export function renderLogs(
  lines: readonly LogLine[],
  place: LogPlace,
  contentType: LogQuestion["contentType"],
): string {
  if (contentType === "text") return lines.map((line) => `${textOf(line)}\n`).join("");
  return JSON.stringify(
    lines.map((line) => ({
      iothub: place.iotHub,
      device: place.deviceId,
      id: place.module,
      stream: "stdout",
      loglevel: line.level,
      text: line.text,
      timestamp: new Date(line.at).toISOString(),
    })),
  );
}

const LEVEL_NAMES: Readonly<Record<number, string>> = { 3: "ERR", 4: "WRN", 6: "INF", 7: "DBG" };

function textOf({ at, level, text }: LogLine): string {
  const time = new Date(at).toISOString().replace("T", " ").replace("Z", " +00:00");
  return `<${level}> ${time} [${LEVEL_NAMES[level] ?? "INF"}] ${text}`;
}

/** Reads what a method asks of logs; `now` is what durations count back from. Mistakes go to `problems`. */
export function readLogQuestion(payload: JsonObject, now: number, problems: string[]): LogQuestion {
  const written = payload["items"];
  const list = (Array.isArray(written) ? written : [written]) as readonly (JsonValue | undefined)[];
  if (written === undefined || list.length === 0) problems.push("items is needed: {id, filter} or a list");
  const items = list.flatMap((item, index) => {
    if (item === undefined) return [];
    const path = Array.isArray(written) ? `items[${index}]` : "items";
    if (!isObject(item)) {
      problems.push(`${path} must be an object`);
      return [];
    }
    const id = readPattern(item["id"], `${path}.id`, problems);
    if (id === null && item["id"] === undefined) problems.push(`${path}.id is needed`);
    return id === null ? [] : [{ id, filter: readFilter(item["filter"], `${path}.filter`, now, problems) }];
  });
  return {
    items,
    encoding: choice(payload, "encoding", ["none", "gzip"], problems),
    contentType: choice(payload, "contentType", ["text", "json"], problems),
  };
}

function choice<T extends string>(
  payload: JsonObject,
  name: string,
  values: readonly [T, ...T[]],
  problems: string[],
): T {
  const written = ownValue(payload, name) ?? values[0];
  const found = values.find((one) => typeof written === "string" && one === written.toLowerCase());
  if (found === undefined) problems.push(`${name} must be one of ${values.join(", ")}`);
  return found ?? values[0];
}

function readFilter(
  written: JsonValue | undefined,
  path: string,
  now: number,
  problems: string[],
): LogFilter {
  if (written !== undefined && written !== null && !isObject(written))
    problems.push(`${path} must be an object`);
  const filter = isObject(written) ? written : {};
  const integer = (name: string, most: number): number | null => {
    const value = ownValue(filter, name) ?? null;
    if (value === null) return null;
    if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= most) return value;
    problems.push(`${path}.${name} must be a whole number from 0 to ${most}`);
    return null;
  };
  return {
    tail: integer("tail", Number.MAX_SAFE_INTEGER),
    loglevel: integer("loglevel", 7),
    since: readMoment(filter["since"], `${path}.since`, now, problems),
    until: readMoment(filter["until"], `${path}.until`, now, problems),
    regex: readPattern(filter["regex"], `${path}.regex`, problems),
  };
}

function readPattern(written: JsonValue | undefined, path: string, problems: string[]): RegExp | null {
  if (written === undefined || written === null) return null;
  try {
    if (typeof written === "string") return new RegExp(written, "i");
  } catch {
    // Reported below, as for everything that is not a pattern.
  }
  problems.push(`${path} must be a regular expression`);
  return null;
}

const UNITS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** A duration such as `1h` or `2 days` back from `now`, RFC 3339, or seconds since the Unix epoch. */
export function readMoment(
  written: JsonValue | undefined,
  path: string,
  now: number,
  problems: string[],
): number | null {
  if (written === undefined || written === null) return null;
  const text = String(written).trim();
  if (/^[0-9]{1,12}$/.test(text)) return Number(text) * 1000;
  const [, amount, unit] =
    /^([0-9]+(?:\.[0-9]+)?) ?(s|m|h|d|w|sec|min|seconds?|minutes?|hours?|days?|weeks?)$/i.exec(text) ?? [];
  if (amount !== undefined && unit !== undefined)
    return now - Number(amount) * (ownValue(UNITS, unit[0]?.toLowerCase() ?? "s") ?? 0);
  // Without its zone it would be another time on another machine.
  const parsed = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T.*(Z|[+-][0-9]{2}:[0-9]{2})$/i.test(text)
    ? Date.parse(text)
    : Number.NaN;
  if (!Number.isNaN(parsed)) return parsed;
  problems.push(
    `${path} must be a duration such as 1h, a time of RFC 3339 with its zone, or seconds since 1970`,
  );
  return null;
}
