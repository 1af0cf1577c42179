import fc from "fast-check";
import { expect, test } from "vitest";
import { instant } from "../base/time.ts";
import { createWaitList } from "./wait-list.ts";

const key = fc.integer({ min: 0, max: 100 });
const command = fc.oneof(
  fc.record({ kind: fc.constant("put" as const), key, at: fc.integer({ min: 0, max: 1000 }) }),
  fc.record({ kind: fc.constant("drop" as const), key }),
  fc.record({ kind: fc.constant("dropEarliest" as const) }),
);

test("it knows the earliest, like a map that is searched", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 300, size: "max" }), (commands) => {
      const list = createWaitList<number>();
      const model = new Map<number, number>();
      for (const done of commands) {
        if (done.kind === "put") {
          list.put(done.key, instant(done.at));
          model.set(done.key, Math.min(done.at, model.get(done.key) ?? Number.POSITIVE_INFINITY));
        } else {
          const dropped = done.kind === "drop" ? done.key : list.earliest()?.key;
          if (dropped === undefined) continue;
          list.drop(dropped);
          model.delete(dropped);
        }
        const earliest = list.earliest();
        expect(list.size()).toBe(model.size);
        expect(earliest?.at).toBe(model.size === 0 ? undefined : Math.min(...model.values()));
        if (earliest !== undefined) expect(model.get(earliest.key)).toBe(earliest.at);
      }
    }),
  );
});

test("a key dropped from the middle leaves the others in order", () => {
  const list = createWaitList<number>();
  const times = [0, 100, 1, 101, 102, 2, 3]; // the last one has to rise above the parent of the one that goes
  for (const at of times) list.put(at, instant(at));
  list.drop(101);
  const order: number[] = [];
  for (let next = list.earliest(); next !== undefined; next = list.earliest()) {
    order.push(next.at);
    list.drop(next.key);
  }
  expect(order).toEqual([0, 1, 2, 3, 100, 102]);
});
