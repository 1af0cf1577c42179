import type { JsonObject } from "../base/json.ts";
import { type Answer, nameOfStatus, ok, type Refused, refuse } from "../hub/errors.ts";
import { type DeviceOperation, seversAll } from "../hub/faults/faults.ts";
import type { Hub } from "../hub/hub.ts";
import type { Charged } from "../hub/limits/quota.ts";
import { isBasic } from "../hub/limits/tier.ts";
import { twinKey } from "../hub/twins/twin.ts";
import {
  createDeviceSessions,
  type DeviceSessions,
  type Listener,
  type Session,
  type SessionIdentity,
} from "./device-sessions.ts";

// Between the hub and its devices: simulated devices and the MQTT front connect here once a client has proven its
// identity, pass on what the listener hears, and answer GET and PATCH with `getTwin` and `report`.

/** As a device reads its twin: no tags, no metadata. */
export type DeviceTwin = Readonly<
  Record<"desired" | "reported", JsonObject> & Record<"desiredVersion" | "reportedVersion", number>
>;

export type DeviceLinks = {
  /** One session for one identity: a second one displaces the first. Refused for unknown and disabled devices. */
  readonly connect: <Subject>(
    identity: SessionIdentity,
    listener: Listener<Subject>,
    subject: Subject,
  ) => Answer<Session>;
  readonly getTwin: (session: Session) => Answer<DeviceTwin>;
  /** A merge patch of the reported properties; answers with their new version. */
  readonly report: (session: Session, patch: JsonObject) => Answer<number>;
  /** Whether a desired patch was lost on the way since this was last asked: then the twin must be read again. */
  readonly missed: (session: Session) => boolean;
  readonly close: (session: Session) => void;
  /** Whether a session is open for the identity. */
  readonly isTaken: (identity: SessionIdentity) => boolean;
};

export function createDeviceLinks(hub: Hub, options: { readonly chargeDevices: boolean }): DeviceLinks {
  const sessions = createDeviceSessions(hub.noteConnection);
  listenToHub(hub, sessions, (patch) => charge("desiredNotification", patch));

  function charge(what: Charged, content: object): void {
    if (options.chargeDevices) hub.quota.charge(what, Buffer.byteLength(JSON.stringify(content)));
  }

  function refusedSession(session: Session): Refused | null {
    if (sessions.get(session.key) !== session) return refuse("IotHubUnauthorized", "The session is closed");
    return blockedReason(hub, session, options.chargeDevices);
  }

  const cut = ({ key }: Session) => sessions.drop(key, "cut");

  return {
    connect({ deviceId, moduleId }, listener, subject) {
      if (hub.faults.unreachable() !== null) return refuse("ServiceUnavailable", "The hub cannot be reached");
      const device = hub.registry.get(deviceId, null);
      if (device?.enabled !== true || hub.registry.get(deviceId, moduleId) === undefined)
        return refuse("IotHubUnauthorized", "The identity is not known, or its device is disabled");
      const fault = faultFor(hub, "device.connect", deviceId, () => {});
      if (fault !== null) return fault;
      return ok(sessions.open({ deviceId, moduleId }, listener, subject));
    },

    getTwin(session) {
      const refused =
        refusedSession(session) ?? faultFor(hub, "device.getTwin", session.deviceId, () => cut(session));
      if (refused !== null) return refused;
      const twin = hub.twins.get(session.key);
      if (twin === undefined) return refuse("DeviceNotFound", "The identity is gone");
      if (options.chargeDevices && !hub.throttle.take("twinRead", 1)) return tooMany(hub);
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
      const blocked = refusedSession(session);
      if (blocked !== null) return blocked;
      if (options.chargeDevices && !hub.throttle.take("twinWrite", 1)) return tooMany(hub);
      const fault = faultFor(hub, "device.report", session.deviceId, () => cut(session));
      if (fault !== null) return fault;
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
      const open = sessions.get(session.key);
      if (open === undefined || open !== session || !open.lost) return false;
      if (hub.faults.cutsOff(session.deviceId)) return false;
      open.lost = false;
      return true;
    },

    close: (session) => {
      if (sessions.get(session.key) === session) sessions.close(session);
    },

    isTaken: ({ deviceId, moduleId }) => sessions.get(twinKey(deviceId, moduleId)) !== undefined,
  };
}

/** What the hub does to open sessions: patches of twins, identities that go or are disabled, faults that cut everything. */
function listenToHub(hub: Hub, sessions: DeviceSessions, charge: (patch: JsonObject) => void): void {
  hub.twins.onWrite(({ key, twin, desiredPatch }) => {
    const session = desiredPatch === null ? undefined : sessions.get(key);
    if (session === undefined || twin === null || desiredPatch === null) return;
    // Nothing is queued for a device that cannot be reached.
    if (hub.faults.cutsOff(session.deviceId)) session.lost = true;
    else {
      charge(desiredPatch);
      session.desired(desiredPatch, twin.desired.version);
    }
  });

  hub.registry.onWrite(({ key, before, after }) => {
    if (after === null) sessions.remove(key);
    else if (before?.enabled === true && !after.enabled) {
      sessions.drop(key, "disabled");
      for (const module of hub.registry.modulesOf(after.deviceId))
        sessions.drop(twinKey(module.deviceId, module.moduleId), "disabled");
    }
  });

  hub.faults.onPut((rule) => {
    if (seversAll(rule)) sessions.dropAll("cut");
  });
}

/** How a fault refuses an operation of a device; `null`: none does. */
function faultFor(hub: Hub, operation: DeviceOperation, deviceId: string, cut: () => void): Refused | null {
  const rule = hub.faults.deviceFaultFor(operation, deviceId);
  if (rule === null) return null;
  hub.counters.device("refused");
  if (rule.kind === "reset") cut();
  const code = rule.kind === "status" ? nameOfStatus(rule.status) : "ServiceUnavailable";
  return refuse(code, `Injected by the fault rule ${rule.id}`);
}

/** Why an open session may do nothing just now; `null`: it may. */
function blockedReason(hub: Hub, session: Session, charged: boolean): Refused | null {
  if (hub.faults.cutsOff(session.deviceId)) return refuse("ServiceUnavailable", "The hub cannot be reached");
  if (isBasic(hub.options.tier))
    return refuse("OperationNotAvailableInCurrentTier", `Tier ${hub.options.tier} has no twins`);
  if (charged && hub.quota.spent())
    return refuse("IotHubQuotaExceeded", "The daily quota of messages is used up until midnight UTC");
  return null;
}

function tooMany(hub: Hub): Refused {
  hub.counters.device("refused");
  return refuse("DeviceThrottlingLimitExceeded", "Too many operations of devices");
}
