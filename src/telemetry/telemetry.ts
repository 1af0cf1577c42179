// The port of logs and metrics: types only.

export type Fields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** Messages are constants, facts are fields, each failure is logged once. */
export type Log = {
  readonly debug: (message: string, fields?: Fields) => void;
  readonly info: (message: string, fields?: Fields) => void;
  readonly warn: (message: string, fields?: Fields) => void;
  readonly error: (message: string, cause: unknown, fields?: Fields) => void;
  readonly with: (fields: Fields) => Log;
};

/** Labels are bounded: never a device id, never an error's text. Names are in telemetry/metrics.ts. */
export type Labels = Readonly<Record<string, string>>;
export type Meter = {
  readonly count: (name: string, labels?: Labels, by?: number) => void;
  readonly gauge: (name: string, value: number, labels?: Labels) => void;
  readonly observe: (name: string, value: number, labels?: Labels) => void;
};
