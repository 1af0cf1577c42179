import type { Fields, Log } from "../../src/telemetry/telemetry.ts";

export type FakeLog = Log & {
  readonly lines: () => readonly {
    readonly level: string;
    readonly message: string;
    readonly fields: Fields;
  }[];
};

/** Keeps what is logged. */
export function createFakeLog(): FakeLog {
  const lines: { level: string; message: string; fields: Fields }[] = [];
  const withFields = (bound: Fields): Log => ({
    debug: (message, fields) => void lines.push({ level: "debug", message, fields: { ...bound, ...fields } }),
    info: (message, fields) => void lines.push({ level: "info", message, fields: { ...bound, ...fields } }),
    warn: (message, fields) => void lines.push({ level: "warn", message, fields: { ...bound, ...fields } }),
    error: (message, cause, fields) =>
      void lines.push({ level: "error", message, fields: { ...bound, ...fields, cause: String(cause) } }),
    with: (fields) => withFields({ ...bound, ...fields }),
  });
  return { ...withFields({}), lines: () => [...lines] };
}
