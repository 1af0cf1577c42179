import { inspect } from "node:util";
import { type DestinationStream, destination, type Logger, pino } from "pino";
import { redact } from "../base/redact.ts";
import type { Fields, Log } from "./telemetry.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** JSON lines, one an entry, on standard output or on `stream`. Every string of every field is redacted. */
export function createLog(
  level: LogLevel,
  stream: DestinationStream = destination({ fd: 1, sync: true }),
): Log {
  return logOn(
    pino(
      {
        level,
        base: null,
        messageKey: "message",
        timestamp: () => `,"time":"${new Date().toISOString()}"`,
        formatters: { level: (label) => ({ level: label }) },
      },
      stream,
    ),
  );
}

function logOn(logger: Logger): Log {
  return {
    debug: (message, fields) => {
      if (logger.isLevelEnabled("debug")) logger.debug(clean(fields), message);
    },
    info: (message, fields) => logger.info(clean(fields), message),
    warn: (message, fields) => logger.warn(clean(fields), message),
    error: (message, cause, fields) => logger.error({ ...clean(fields), ...causeFields(cause) }, message),
    with: (fields) => logOn(logger.child(clean(fields))),
  };
}

function clean(fields: Fields | undefined): Fields {
  if (fields === undefined) return {};
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, typeof value === "string" ? redact(value) : value]),
  );
}

/** Text of an error and of its causes, never its other properties: vendors put live tokens and requests into them. */
function causeFields(cause: unknown): Fields {
  if (!(cause instanceof Error)) return { error: redact(textOf(cause)) };
  const chain: string[] = [];
  for (let at: unknown = cause; at instanceof Error && chain.length < 5; at = at.cause)
    chain.push(`${at.name}: ${at.message}`);
  return { error: redact(chain.join(" ← ")), stack: redact(cause.stack ?? "") };
}

function textOf(cause: unknown): string {
  return typeof cause === "string"
    ? cause
    : inspect(cause, { depth: 2, breakLength: Number.POSITIVE_INFINITY });
}
