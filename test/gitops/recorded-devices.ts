import type { EdgeDevice } from "../../src/api/edge-device.ts";
import { CLOSED_GRANT, OPEN_GRANT } from "../../src/api/tenancy.ts";
import { digestOf } from "../../src/base/digest.ts";
import type { Fault } from "../../src/base/fault.ts";
import { type Instant, instant, minutes, seconds } from "../../src/base/time.ts";
import { decideDevice } from "../../src/devices/decide.ts";
import { statusOf } from "../../src/devices/report/report.ts";
import { type DeviceActed, type DeviceSeen, type HubSeen, NOT_ACTED } from "../../src/devices/seen.ts";
import {
  deviceSpec,
  edgeDevice,
  inferenceDeployment,
  inferenceReport,
  rollingStatus,
} from "../builders/fleet.ts";
import { type Case, CURRENT, type Expected, LEAVING, MOVING, STUCK, UNSEEN } from "./recorded-case.ts";

const NOW = instant(Date.UTC(2026, 0, 10));
const LONG_AGO = instant(NOW - minutes(60));
const AWAY: Fault = { kind: "unavailable", message: "the hub is not responding (503)" };
const SLOW: Fault = { kind: "throttled", retryAfter: seconds(10), message: "429" };
const DENIED: Fault = { kind: "denied", message: "401" };
const REJECTED: Fault = { kind: "rejected", message: "400" };
const CONFLICT: Fault = { kind: "conflict", message: "409" };

const OURS = {
  edgefleet: { managed: true, cluster: "c1", namespace: "plant-a", device: "cam-1", adopted: false },
};
const UPDATE = { release: "plant-a.resnet50-2.1.0", digest: digestOf("2.1.0"), at: "2026-01-09T23:00:00Z" };
const SECRET = { spec: deviceSpec({ connectionSecret: { name: "cam-1-hub" } }) };

function present(
  report: Parameters<typeof inferenceReport>[1] | null = {},
  at: Instant = NOW,
  more: Partial<Extract<HubSeen, { readonly kind: "present" }>> = {},
): HubSeen {
  return {
    kind: "present",
    generationId: "637",
    enabled: true,
    iotEdge: true,
    identityEtag: null,
    etag: "1",
    tags: OURS,
    slots: report === null ? {} : { inference: { pointer: null, report: inferenceReport(at, report) } },
    ...more,
  };
}

type Change = {
  readonly device?: Partial<EdgeDevice>;
  readonly hub?: HubSeen;
  readonly seen?: Partial<DeviceSeen>;
  readonly acted?: Partial<DeviceActed>;
  readonly fault?: Fault;
};

function recorded(name: string, expected: Expected, change: Change = {}): Case {
  const device = edgeDevice({ createdAt: LONG_AGO, ...change.device });
  const seen: DeviceSeen = {
    now: NOW,
    device,
    deviceId: "cam-1",
    host: "plant.azure-devices.net",
    salt: "edgefleet",
    clusterId: "c1",
    succeeds: false,
    successor: null,
    handedTo: "none",
    deployments: [inferenceDeployment({ status: rollingStatus(0) })],
    hub: change.hub ?? present(),
    hubReachable: true,
    grant: OPEN_GRANT,
    mustWait: false,
    ...change.seen,
  };
  const status = statusOf(seen, decideDevice(seen), { ...NOT_ACTED, ...change.acted }, change.fault ?? null);
  return { name, kind: "EdgeDevice", resource: { ...device, status }, expected };
}

const CANDIDATE = { deployments: [inferenceDeployment({ status: rollingStatus(1_000_000) })] };
const GONE = { deleting: true };

/** EdgeDevices. Whether the device itself is there makes no difference to any of them. */
export function recordedDevices(): readonly Case[] {
  const ready = CURRENT("DeviceReady");
  const created = edgeDevice({ createdAt: LONG_AGO, finalizers: [] });
  const online = recorded("online", ready);
  return [
    { name: "just-created", kind: "EdgeDevice", resource: created, expected: UNSEEN },
    online,
    {
      name: "changed-in-git",
      kind: "EdgeDevice",
      resource: { ...online.resource, generation: 2 },
      expected: MOVING("DeviceReady"),
    },
    recorded("never-seen", ready, { hub: present(null) }),
    recorded("heartbeat-missing", ready, { hub: present({}, LONG_AGO) }),
    recorded("clock-ahead", ready, { hub: present({}, instant(NOW + minutes(60))) }),
    recorded("silent-while-the-hub-is-away", ready, {
      hub: present({}, LONG_AGO),
      seen: { hubReachable: false },
    }),
    recorded("disabled", ready, {
      device: { spec: deviceSpec({ enabled: false }) },
      hub: present({}, LONG_AGO, { enabled: false }),
    }),
    recorded("updating", ready, {
      hub: present({ update: { ...UPDATE, state: "Downloading" } }),
      seen: CANDIDATE,
    }),
    recorded("update-failed", ready, {
      hub: present({
        update: { ...UPDATE, state: "Failed", error: { code: "LoadFailed", message: "bad opset" } },
      }),
      seen: CANDIDATE,
    }),
    recorded("nothing-placed", ready, { seen: { deployments: [] } }),
    recorded("hub-throttled", MOVING("HubThrottled"), { fault: SLOW }),
    recorded("hub-unavailable", MOVING("HubUnavailable"), { hub: { kind: "unreadable", fault: AWAY } }),
    recorded("created-by-another-client", MOVING("HubConflict"), {
      hub: { kind: "absent" },
      fault: CONFLICT,
    }),
    recorded("secret-due", MOVING("HubConflict"), { device: SECRET, fault: CONFLICT }),
    recorded("secret-not-accepted", MOVING("KubeUnavailable"), {
      device: SECRET,
      acted: { secret: { kind: "failed", source: "kube", fault: AWAY }, failedAt: "kube" },
      fault: AWAY,
    }),
    recorded("hub-denied", STUCK("HubDenied"), { fault: DENIED }),
    recorded("hub-rejected", STUCK("HubRejected"), { fault: REJECTED }),
    recorded("iot-edge-differs", STUCK("HubRejected"), { hub: present({}, NOW, { iotEdge: false }) }),
    recorded("owned-by-another", STUCK("OwnedByAnother"), {
      hub: present({}, NOW, { tags: { edgefleet: { ...OURS.edgefleet, device: "cam-2" } } }),
    }),
    recorded("not-permitted", STUCK("NotPermitted"), {
      seen: { grant: CLOSED_GRANT },
    }),
    recorded("selected-twice", STUCK("SelectedTwice"), {
      seen: { deployments: [inferenceDeployment(), inferenceDeployment({ name: "mobilenet" })] },
    }),
    recorded("secret-of-another-owner", STUCK("SecretConflict"), {
      device: SECRET,
      acted: { secret: { kind: "foreign" } },
    }),
    recorded("no-keys-for-a-secret", STUCK("HubRejected"), {
      device: SECRET,
      acted: { secret: { kind: "keyless" } },
    }),
    recorded("deletion-waits-for-the-hub", LEAVING("HubUnavailable"), {
      device: GONE,
      hub: { kind: "unreadable", fault: AWAY },
    }),
    recorded("deletions-paused", LEAVING("DeletionsPaused"), { device: GONE, seen: { mustWait: true } }),
  ];
}
