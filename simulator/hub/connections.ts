import { createListeners, type PersistedRecords } from "./persistence.ts";
import { type Activity, NO_ACTIVITY } from "./query/document.ts";
import type { TwinKey } from "./twins/twin.ts";

type Link = { readonly connected: boolean; readonly at: number; readonly before: boolean };

/** Connection states as late as the real hub's: not to be taken for liveness. */
export function createConnections(now: () => number, lag: number) {
  const links = new Map<TwinKey, Link>();
  const changes = createListeners();
  const persisted: PersistedRecords = {
    kind: "connection",
    record: (key) => links.get(key),
    restore: (key, record) => links.set(key, record as Link),
    onChange: changes.add,
  };
  return {
    persisted,
    open: (): readonly TwinKey[] => [...links].flatMap(([key, link]) => (link.connected ? [key] : [])),
    note: (key: TwinKey, connected: boolean): void => {
      const before = links.get(key);
      links.set(key, { connected, at: now(), before: before === undefined ? false : stateOf(before) });
      changes.notify(key);
    },
    forget: (key: TwinKey): void => {
      if (links.delete(key)) changes.notify(key);
    },
    isConnected: (key: TwinKey): boolean => links.get(key)?.connected === true,
    activityOf: (key: TwinKey): Activity => {
      const link = links.get(key);
      if (link === undefined || (!link.before && link.at > now() - lag)) return NO_ACTIVITY;
      const at = new Date(link.at).toISOString();
      return {
        connectionState: stateOf(link) ? "Connected" : "Disconnected",
        connectionStateUpdatedTime: at,
        lastActivityTime: at,
        cloudToDeviceMessageCount: 0,
      };
    },
  };

  function stateOf(link: Link): boolean {
    return link.at > now() - lag ? link.before : link.connected;
  }
}

export type Connections = ReturnType<typeof createConnections>;
