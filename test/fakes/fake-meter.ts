import type { Labels, Meter } from "../../src/telemetry/telemetry.ts";

export type FakeMeter = Meter & {
  /** The value of a counter or a gauge, or the number of observations; 0 where there is none. */
  readonly value: (name: string, labels?: Labels) => number;
};

export function createFakeMeter(): FakeMeter {
  const values = new Map<string, number>();
  const id = (name: string, labels: Labels = {}) =>
    `${name} ${JSON.stringify(Object.entries(labels).sort())}`;
  const add = (name: string, labels: Labels | undefined, by: number) =>
    values.set(id(name, labels), (values.get(id(name, labels)) ?? 0) + by);
  return {
    count: (name, labels, by = 1) => add(name, labels, by),
    gauge: (name, value, labels) => values.set(id(name, labels), value),
    observe: (name, _value, labels) => add(name, labels, 1),
    value: (name, labels) => values.get(id(name, labels)) ?? 0,
  };
}
