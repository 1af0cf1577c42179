import type { Hub } from "../../hub/hub.ts";
import { type DeviceRow, deviceRow } from "./device-row.ts";

/** A row for each device. Only rows that have changed are made again, and only when they are read. */
export type Roster = {
  /** By id, in code point order. */
  readonly rows: () => readonly DeviceRow[];
  readonly row: (deviceId: string) => DeviceRow | undefined;
};

export function createRoster(hub: Hub): Roster {
  const rows = new Map<string, DeviceRow>();
  const changed = new Set<string>();
  let sorted: readonly string[] = [];
  let listening = false;

  /** Nothing is noted before the roster is read for the first time. */
  function listen(): void {
    listening = true;
    const note = (key: string) => changed.add(key.split("/", 1)[0] ?? key);
    hub.twins.onWrite(({ key }) => note(key));
    hub.registry.onWrite(({ key }) => note(key));
    hub.onConnection(note);
    for (const { deviceId } of hub.registry.devices()) changed.add(deviceId);
  }

  function catchUp(): void {
    if (!listening) listen();
    const before = rows.size;
    let isOther = false;
    for (const deviceId of changed) {
      const identity = hub.registry.get(deviceId, null);
      if (identity === undefined) isOther = rows.delete(deviceId) || isOther;
      else rows.set(deviceId, deviceRow(hub, identity));
    }
    changed.clear();
    if (isOther || rows.size !== before) sorted = [...rows.keys()].sort();
  }

  return {
    rows: () => {
      catchUp();
      return sorted.flatMap((deviceId) => rows.get(deviceId) ?? []);
    },
    row: (deviceId) => {
      catchUp();
      return rows.get(deviceId);
    },
  };
}
