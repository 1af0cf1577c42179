import type { JsonObject } from "../base/json.ts";
import { type Answer, nameOfStatus, ok, refuse } from "../hub/errors.ts";
import { type DeviceOperation, seversAll } from "../hub/faults/faults.ts";
import type { Hub } from "../hub/hub.ts";
import type { Charged } from "../hub/limits/quota.ts";
import { isBasic } from "../hub/limits/tier.ts";
import { type TwinKey, twinKey } from "../hub/twins/twin.ts";

// Between the hub and its devices. In-process devices hold sessions of it, and a front for MQTT would: connect when a
// client has proven who it is, hand on what the listener is told, answer GET and PATCH with `getTwin` and `report`.

/** `cut`: the line broke, and the device may come back. */
export type ClosedBecause = "displaced" | "disabled" | "removed" | "cut";

/** Shared by all sessions of one kind; `subject` says whose it is, so that no session needs closures of its own. */
export type Listener<Subject> = {
  /** A patch of the desired properties, and their version after it. */
  readonly desired: (subject: Subject, patch: JsonObject, version: number) => void;
  readonly closed: (subject: Subject, because: ClosedBecause) => void;
  /** Whoever displaced the subject is gone too: it may connect again. Without it a subject stays away. */
  readonly vacant?: (subject: Subject) => void;
};

export type Session = {
  readonly deviceId: string;
  readonly moduleId: string | null;
  readonly key: TwinKey;
};

/** As a device reads its twin: no tags, no metadata. */
export type DeviceTwin = {
  readonly desired: JsonObject;
  readonly desiredVersion: number;
  readonly reported: JsonObject;
  readonly reportedVersion: number;
};

export type DeviceLinks = {
  /** One session for one identity: a second one displaces the first. Refused for unknown and disabled devices. */
  readonly connect: <Subject>(
    who: { readonly deviceId: string; readonly moduleId: string | null },
    listener: Listener<Subject>,
    subject: Subject,
  ) => Answer<Session>;
  readonly getTwin: (session: Session) => Answer<DeviceTwin>;
  /** A merge patch of the reported properties; answers with their new version. */
  readonly report: (session: Session, patch: JsonObject) => Answer<number>;
  /** Whether a desired patch was lost on the way since this was last asked: then the twin must be read again. */
  readonly missed: (session: Session) => boolean;
  readonly close: (session: Session) => void;
  /** Whether anybody has a session for the identity. */
  readonly isTaken: (who: { readonly deviceId: string; readonly moduleId: string | null }) => boolean;
};

type Connection = Session & {
  readonly desired: (patch: JsonObject, version: number) => void;
  readonly closed: (because: ClosedBecause) => void;
  readonly vacant: (() => void) | null;
  lost: boolean;
};

export function createDeviceLinks(hub: Hub, options: { readonly chargeDevices: boolean }): DeviceLinks {
  const connections = new Map<TwinKey, Connection>();
  /** Those who would come back, by the identity that others have taken from them. */
  const displaced = new Map<TwinKey, () => void>();

  hub.twins.onWrite(({ key, twin, desiredPatch }) => {
    const connection = desiredPatch === null ? undefined : connections.get(key);
    if (connection === undefined || twin === null || desiredPatch === null) return;
    // Nothing is queued for a device that cannot be reached.
    if (hub.faults.cutsOff(connection.deviceId)) connection.lost = true;
    else {
      charge("desiredNotification", desiredPatch);
      connection.desired(desiredPatch, twin.desired.version);
    }
  });

  hub.registry.onWrite(({ key, before, after }) => {
    if (after === null) {
      displaced.delete(key);
      drop(key, "removed");
    } else if (before?.enabled === true && !after.enabled) {
      drop(key, "disabled");
      for (const module of hub.registry.modulesOf(after.deviceId))
        drop(twinKey(module.deviceId, module.moduleId), "disabled");
    }
  });

  hub.faults.onPut((rule) => {
    if (seversAll(rule)) for (const key of [...connections.keys()]) drop(key, "cut");
  });

  function drop(key: TwinKey, because: ClosedBecause): void {
    const connection = connections.get(key);
    if (connection === undefined) return;
    connections.delete(key);
    if (because !== "removed") hub.noteConnection(key, false);
    if (because === "displaced" && connection.vacant !== null) displaced.set(key, connection.vacant);
    connection.closed(because);
    if (because === "disabled") displaced.get(key)?.();
  }

  function charge(what: Charged, content: object): void {
    if (options.chargeDevices) hub.quota.charge(what, Buffer.byteLength(JSON.stringify(content)));
  }

  /** Why a session may do nothing just now. */
  function barred(session: Session): Answer<void> {
    if (connections.get(session.key) !== session)
      return refuse("IotHubUnauthorized", "The session is closed");
    if (hub.faults.cutsOff(session.deviceId))
      return refuse("ServiceUnavailable", "The hub cannot be reached");
    if (isBasic(hub.options.tier))
      return refuse("OperationNotAvailableInCurrentTier", `Tier ${hub.options.tier} has no twins`);
    if (options.chargeDevices && hub.quota.spent())
      return refuse("IotHubQuotaExceeded", "The daily quota of messages is used up until midnight UTC");
    return ok(undefined);
  }

  /** What a fault makes of an operation of a device. */
  function stricken(operation: DeviceOperation, deviceId: string, session: Session | null): Answer<void> {
    const rule = hub.faults.strikeDevice(operation, deviceId);
    if (rule === null) return ok(undefined);
    hub.counters.device("refused");
    if (rule.kind === "reset" && session !== null) drop(session.key, "cut");
    const code = rule.kind === "status" ? nameOfStatus(rule.status) : "ServiceUnavailable";
    return refuse(code, `Injected by the fault rule ${rule.id}`);
  }

  return {
    connect({ deviceId, moduleId }, listener, subject) {
      if (hub.faults.unreachable() !== null) return refuse("ServiceUnavailable", "The hub cannot be reached");
      const device = hub.registry.get(deviceId, null);
      if (device?.enabled !== true || hub.registry.get(deviceId, moduleId) === undefined)
        return refuse("IotHubUnauthorized", "The identity is not known, or its device is disabled");
      const spared = stricken("device.connect", deviceId, null);
      if (!spared.ok) return spared;
      const key = twinKey(deviceId, moduleId);
      drop(key, "displaced");
      const connection: Connection = {
        deviceId,
        moduleId,
        key,
        desired: (patch, version) => listener.desired(subject, patch, version),
        closed: (because) => listener.closed(subject, because),
        vacant: listener.vacant === undefined ? null : () => listener.vacant?.(subject),
        lost: false,
      };
      connections.set(key, connection);
      if (connection.vacant !== null) displaced.delete(key);
      hub.noteConnection(key, true);
      return ok(connection);
    },

    getTwin(session) {
      const allowed = barred(session);
      if (!allowed.ok) return allowed;
      const spared = stricken("device.getTwin", session.deviceId, session);
      if (!spared.ok) return spared;
      const twin = hub.twins.get(session.key);
      if (twin === undefined) return refuse("DeviceNotFound", "The identity is gone");
      if (options.chargeDevices && !hub.throttle.take("twinRead", 1)) return tooMany();
      hub.counters.device("twinReads");
      const read: DeviceTwin = {
        desired: twin.desired.value,
        desiredVersion: twin.desired.version,
        reported: twin.reported.value,
        reportedVersion: twin.reported.version,
      };
      charge("twinRead", read);
      return ok(read);
    },

    report(session, patch) {
      const allowed = barred(session);
      if (!allowed.ok) return allowed;
      if (options.chargeDevices && !hub.throttle.take("twinWrite", 1)) return tooMany();
      const spared = stricken("device.report", session.deviceId, session);
      if (!spared.ok) return spared;
      const reported = hub.twins.get(session.key)?.reported;
      if (reported !== undefined && hub.faults.losesReport(session.deviceId)) {
        hub.counters.device("lost");
        return ok(reported.version + 1);
      }
      const written = hub.twins.report(session.key, patch);
      if (!written.ok) {
        hub.counters.device("refused");
        return written;
      }
      hub.counters.device("reports");
      charge("twinWrite", patch);
      return ok(written.value.reported.version);
    },

    missed(session) {
      const connection = connections.get(session.key);
      if (connection === undefined || connection !== session || !connection.lost) return false;
      if (hub.faults.cutsOff(session.deviceId)) return false;
      connection.lost = false;
      return true;
    },

    close(session) {
      if (connections.get(session.key) !== session) return;
      connections.delete(session.key);
      hub.noteConnection(session.key, false);
      displaced.get(session.key)?.();
    },

    isTaken: ({ deviceId, moduleId }) => connections.has(twinKey(deviceId, moduleId)),
  };

  function tooMany() {
    hub.counters.device("refused");
    return refuse("DeviceThrottlingLimitExceeded", "Too many operations of devices");
  }
}
