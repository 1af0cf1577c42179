/** What was asked for the first time goes before what is asked again, but never for ever. */
export type Urgency = "new" | "again";

export type QueueBounds = { readonly perTenant: number; readonly inAll: number };

/** Whose turn it is: pure bookkeeping, for one worker that takes one item after the other. */
export type TenantQueue<Item> = {
  readonly add: (tenant: string, urgency: Urgency, item: Item) => "added" | "tenantFull" | "full";
  /** The next one: what was taken before is over then, and its tenant goes to the end of the row. */
  readonly take: () => Item | null;
  /** What `take` would give now; something else may come before it yet. */
  readonly next: () => Item | null;
  readonly remove: (item: Item) => boolean;
  /** How many items are before it in the row of its own tenant, and how urgent it is; `null` where it does not wait. */
  readonly place: (item: Item) => { readonly before: number; readonly urgency: Urgency } | null;
  readonly waiting: (tenant: string) => number;
  readonly size: (urgency?: Urgency) => number;
  readonly tenants: () => number;
  readonly clear: () => void;
};

/** Of so many turns in a row, one belongs to what is asked again, if any such waits. */
const TURNS_BEFORE_AGAIN = 4;

/**
 * Tenants take turns, and each one's items are taken in the order of their coming. A tenant joins the end of the row
 * with its first item, and rejoins it when its turn is over: one that comes waits for one turn of each tenant that was
 * there before it, however many items they have.
 */
export function createTenantQueue<Item>(bounds: QueueBounds): TenantQueue<Item> {
  const lanes = { new: createLane<Item>(), again: createLane<Item>() } as const;
  let newInRow = 0;

  const nextLane = (): Urgency => {
    if (lanes.again.size() === 0) return "new";
    return lanes.new.size() === 0 || newInRow >= TURNS_BEFORE_AGAIN - 1 ? "again" : "new";
  };
  const waiting = (tenant: string) => lanes.new.waiting(tenant) + lanes.again.waiting(tenant);
  const size = (urgency?: Urgency) =>
    urgency === undefined ? lanes.new.size() + lanes.again.size() : lanes[urgency].size();

  return {
    waiting,
    size,
    add: (tenant, urgency, item) => {
      if (size() >= bounds.inAll) return "full";
      if (waiting(tenant) >= bounds.perTenant) return "tenantFull";
      lanes[urgency].add(tenant, item);
      return "added";
    },
    take: () => {
      const urgency = nextLane();
      newInRow = urgency === "new" && lanes.again.size() > 0 ? newInRow + 1 : 0;
      return lanes[urgency].take();
    },
    next: () => lanes[nextLane()].next(),
    remove: (item) => lanes.new.remove(item) || lanes.again.remove(item),
    place: (item) => {
      for (const urgency of ["new", "again"] as const) {
        const before = lanes[urgency].before(item);
        if (before !== null) return { before, urgency };
      }
      return null;
    },
    tenants: () => new Set([...lanes.new.tenants(), ...lanes.again.tenants()]).size,
    clear: () => {
      lanes.new.clear();
      lanes.again.clear();
    },
  };
}

type Lane<Item> = {
  readonly add: (tenant: string, item: Item) => void;
  readonly take: () => Item | null;
  readonly next: () => Item | null;
  readonly remove: (item: Item) => boolean;
  readonly before: (item: Item) => number | null;
  readonly waiting: (tenant: string) => number;
  readonly size: () => number;
  readonly tenants: () => readonly string[];
  readonly clear: () => void;
};

function createLane<Item>(): Lane<Item> {
  /** Only tenants with items. */
  const items = new Map<string, Item[]>();
  /** Tenants with items, but for the one whose turn it is. */
  let row: string[] = [];
  let turn: string | null = null;
  let count = 0;

  const tenantOf = (item: Item) => [...items].find(([, own]) => own.includes(item))?.[0] ?? null;

  function drop(tenant: string, item: Item): void {
    const left = (items.get(tenant) ?? []).filter((one) => one !== item);
    count -= 1;
    if (left.length > 0) {
      items.set(tenant, left);
      return;
    }
    items.delete(tenant);
    row = row.filter((one) => one !== tenant);
  }

  return {
    add: (tenant, item) => {
      const own = items.get(tenant);
      count += 1;
      if (own !== undefined) {
        own.push(item);
        return;
      }
      items.set(tenant, [item]);
      if (tenant !== turn) row.push(tenant);
    },
    take: () => {
      if (turn !== null && items.has(turn)) row.push(turn);
      turn = row.shift() ?? null;
      const item = turn === null ? undefined : items.get(turn)?.[0];
      if (turn === null || item === undefined) return null;
      drop(turn, item);
      return item;
    },
    next: () => items.get(row[0] ?? turn ?? "")?.[0] ?? null,
    remove: (item) => {
      const tenant = tenantOf(item);
      if (tenant === null) return false;
      drop(tenant, item);
      return true;
    },
    before: (item) => {
      const tenant = tenantOf(item);
      return tenant === null ? null : (items.get(tenant)?.indexOf(item) ?? null);
    },
    waiting: (tenant) => items.get(tenant)?.length ?? 0,
    size: () => count,
    tenants: () => [...items.keys()],
    clear: () => {
      items.clear();
      row = [];
      count = 0;
    },
  };
}
