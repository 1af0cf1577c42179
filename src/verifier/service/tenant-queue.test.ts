import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createTenantQueue, type TenantQueue, type Urgency } from "./tenant-queue.ts";

const BOUNDS = { perTenant: 256, inAll: 1024 };

function filled(...names: readonly string[]): TenantQueue<string> {
  const queue = createTenantQueue<string>(BOUNDS);
  for (const name of names) queue.add(tenantOf(name), "new", name);
  return queue;
}

function takeAll(queue: TenantQueue<string>): readonly string[] {
  const taken = [];
  for (let item = queue.take(); item !== null; item = queue.take()) taken.push(item);
  return taken;
}

/** `a1` is of tenant `a`. */
function tenantOf(item: string): string {
  return item.slice(0, 1);
}

describe("tenants take turns", () => {
  test("each one's own in the order of their coming", () => {
    expect(takeAll(filled("a1", "a2", "a3", "b1", "c1", "b2"))).toEqual(["a1", "b1", "c1", "a2", "b2", "a3"]);
  });

  test("one that comes while another has two hundred waits for the one that runs, and for no more", () => {
    const queue = filled(...Array.from({ length: 200 }, (_, at) => `a${at}`));
    expect([queue.take(), queue.take()]).toEqual(["a0", "a1"]);
    queue.add("b", "new", "b1");
    expect(queue.take()).toBe("b1");
    // One that comes back while its own runs is no newcomer.
    queue.add("b", "new", "b2");
    queue.add("b", "new", "b3");
    expect([1, 2, 3, 4].map(() => queue.take())).toEqual(["a2", "b2", "a3", "b3"]);
  });

  test("the next one can be seen before it is taken", () => {
    const queue = filled("a1", "a2", "b1");
    const seen = [];
    for (let next = queue.next(); next !== null; next = queue.next()) {
      seen.push(next);
      expect(queue.take()).toBe(next);
    }
    expect(seen).toEqual(["a1", "b1", "a2"]);
  });
});

test("what is asked again waits for what is new, but gets every fourth turn", () => {
  const queue = filled("a1", "a2", "a3", "a4", "a5", "a6", "a7");
  for (const item of ["x1", "y1", "x2"]) queue.add(tenantOf(item), "again", item);
  expect(takeAll(queue)).toEqual(["a1", "a2", "a3", "x1", "a4", "a5", "a6", "y1", "a7", "x2"]);
});

test("there is an end for each tenant, and for all", () => {
  const queue = createTenantQueue<string>({ perTenant: 2, inAll: 3 });
  const add = (item: string, how: Urgency = "new") => queue.add(tenantOf(item), how, item);
  expect([add("a1"), add("a2", "again"), add("a3"), add("b1"), add("b2")]).toEqual([
    "added",
    "added",
    "tenantFull",
    "added",
    "full",
  ]);
  expect([queue.size(), queue.size("again"), queue.tenants(), queue.waiting("a")]).toEqual([3, 1, 2, 2]);
});

test("what is removed is not taken, and its place in the row is known until then", () => {
  const queue = filled("a1", "a2", "b1");
  expect([queue.place("a2"), queue.place("b1"), queue.place("c1")]).toEqual([
    { before: 1, urgency: "new" },
    { before: 0, urgency: "new" },
    null,
  ]);
  expect([queue.remove("a1"), queue.remove("a1"), queue.remove("b1")]).toEqual([true, false, true]);
  expect([queue.size(), queue.tenants()]).toEqual([1, 1]);
  expect(takeAll(queue)).toEqual(["a2"]);
});

type Waiting = { readonly item: string; readonly urgency: Urgency };
const tenant = fc.constantFrom("a", "b", "c", "d");
const urgency = fc.constantFrom<Urgency>("new", "again");
const command = fc.oneof(
  { weight: 3, arbitrary: fc.record({ what: fc.constant("add" as const), tenant, urgency }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constant("take" as const) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant("remove" as const), at: fc.nat() }) },
);

test("nothing is lost, doubled, out of order or starved, whatever comes and goes (property)", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 120 }), (commands) => {
      const queue = createTenantQueue<string>({ perTenant: 6, inAll: 15 });
      let waiting: Waiting[] = [];
      /** Turns that others have had since a tenant's first item came, by lane and tenant. */
      const passed = new Map<string, string[]>();
      let serial = 0;
      for (const step of commands) {
        if (step.what === "add") {
          serial += 1;
          const item = `${step.tenant}${serial}`;
          const own = waiting.filter((one) => tenantOf(one.item) === step.tenant).length;
          const roomInAll = own >= 6 ? "tenantFull" : "added";
          expect(queue.add(step.tenant, step.urgency, item)).toBe(waiting.length >= 15 ? "full" : roomInAll);
          if (waiting.length < 15 && own < 6) waiting.push({ item, urgency: step.urgency });
        } else if (step.what === "remove" && waiting.length > 0) {
          const gone = waiting[step.at % waiting.length]!;
          expect(queue.remove(gone.item)).toBe(true);
          waiting = waiting.filter((one) => one !== gone);
        } else if (step.what === "take") {
          const shown = queue.next();
          const item = queue.take();
          expect(item).toBe(shown);
          if (item === null) {
            expect(waiting).toEqual([]);
            continue;
          }
          const taken = waiting.find((one) => one.item === item)!;
          const lane = waiting.filter((one) => one.urgency === taken.urgency);
          // First in, first out within a tenant and a lane.
          expect(lane.find((one) => tenantOf(one.item) === tenantOf(item))).toBe(taken);
          waiting = waiting.filter((one) => one !== taken);
          // No tenant has two turns while another tenant of the lane waits for its first.
          for (const other of new Set(lane.map((one) => tenantOf(one.item)))) {
            const name = `${taken.urgency}/${other}`;
            const turns = other === tenantOf(item) ? [] : [...(passed.get(name) ?? []), tenantOf(item)];
            expect(new Set(turns).size).toBe(turns.length);
            passed.set(name, turns);
          }
        }
        for (const name of passed.keys())
          if (!waiting.some((one) => `${one.urgency}/${tenantOf(one.item)}` === name)) passed.delete(name);
        expect(queue.size()).toBe(waiting.length);
        expect(queue.tenants()).toBe(new Set(waiting.map((one) => tenantOf(one.item))).size);
      }
      expect([...takeAll(queue)].sort()).toEqual(waiting.map((one) => one.item).sort());
    }),
    { numRuns: 300 },
  );
});
