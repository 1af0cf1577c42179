import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { DefaultAzureCredential } from "@azure/identity";
import type { EdgeDeviceSpec, EdgeDeviceStatus } from "./api/edge-device.ts";
import type { InferenceDeploymentSpec, InferenceDeploymentStatus } from "./api/inference-deployment.ts";
import type { ModelReleaseSpec, ModelReleaseStatus } from "./api/model-release.ts";
import type { ObjectKey } from "./api/resource.ts";
import { type GrantOf, OPEN_GRANT } from "./api/tenancy.ts";
import { ok } from "./base/result.ts";
import { millis, minutes, seconds } from "./base/time.ts";
import { createDepartures } from "./devices/departures.ts";
import { reconcileDevice } from "./devices/reconcile.ts";
import { gaugeCaches, gaugeOwnerless } from "./gauges.ts";
import { createAzureHub } from "./hub/azure-hub.ts";
import { createConfigurationView } from "./hub/configuration-view.ts";
import { createFleetView } from "./hub/fleet-view.ts";
import { budgetsOf, createThrottle } from "./hub/throttle.ts";
import { readClusterId } from "./kube/cluster-id.ts";
import { checkDefinitions } from "./kube/definitions.ts";
import { createEventRecorder } from "./kube/event-recorder.ts";
import { leadAlone, whileLeading } from "./kube/leadership/leader-election.ts";
import { LEASE_TIMING } from "./kube/leadership/lease.ts";
import { createLeaseStore, type LeaseStore, monitorLeaseStore } from "./kube/leadership/lease-store.ts";
import { createNamespaces } from "./kube/namespaces.ts";
import { createPrerequisite } from "./kube/prerequisite.ts";
import { createResources } from "./kube/resources.ts";
import { createSecrets } from "./kube/secrets.ts";
import { loadKubeConfig } from "./kube/transport/kubeconfig.ts";
import { createTransport } from "./kube/transport/transport.ts";
import { identityEnvironment, type OperatorSettings, parseOperatorSettings } from "./operator-settings.ts";
import { whyUnready } from "./readiness.ts";
import { reconcileRelease } from "./releases/reconcile.ts";
import { createReverifySlots } from "./releases/reverify-slots.ts";
import { isOurs } from "./rollouts/configurations/content.ts";
import { ownerlessConfigurations } from "./rollouts/configurations/ownerless.ts";
import { reconcileRollout } from "./rollouts/reconcile.ts";
import { exponential } from "./runtime/backoff.ts";
import { systemClock } from "./runtime/clock.ts";
import { type ControllerSpec, runController } from "./runtime/controller.ts";
import type { RuntimeDeps } from "./runtime/deps.ts";
import { type Part, type Plan, runManager } from "./runtime/manager.ts";
import { createAzureStore } from "./store/azure-store.ts";
import type { ModelStore } from "./store/store.ts";
import { createLog } from "./telemetry/log.ts";
import { createMetrics, type Metrics } from "./telemetry/metrics.ts";
import { createProbes, ProbeAddressError } from "./telemetry/probes.ts";
import { deviceTriggers, grantTrigger, indexDevices, releaseTriggers, rolloutTriggers } from "./triggers.ts";
import { createVerifierClient } from "./verification/client.ts";
import { keyOf } from "./verification/key.ts";
import { reportPage } from "./verification/report-page.ts";

// The operator: settings, adapters, controllers, manager. It reads top to bottom.

const RECONCILE_TIMEOUT = minutes(2);
/** How long after its work the process may stay alive for what a library still has open, in milliseconds. */
const EXIT_WITHIN = 2000;

async function main(): Promise<void> {
  const parsed = parseOperatorSettings(process.argv.slice(2), process.env, {
    name: hostname(),
    random: randomBytes(4).toString("hex"),
  });
  if (parsed.kind === "help") return void process.stdout.write(parsed.text);
  if (parsed.kind === "mistakes") {
    process.stderr.write(
      `${parsed.mistakes.map((mistake) => `edge-fleet-operator: ${mistake}`).join("\n")}\n`,
    );
    process.exitCode = 2;
    return;
  }
  Object.assign(process.env, identityEnvironment(process.env));
  await operate(parsed.settings);
}

async function operate(settings: OperatorSettings): Promise<void> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
  const metrics = createMetrics("ignore");
  const deps: RuntimeDeps = {
    clock: systemClock(),
    log: createLog(settings.logLevel),
    meter: metrics.meter,
    random: Math.random,
  };
  const cluster = openCluster(settings, deps);
  try {
    const hub = openHub(settings, deps);
    try {
      await serve({ settings, deps, metrics, cluster, hub, store: openStore(settings, deps) }, stop.signal);
    } finally {
      hub.close();
    }
  } finally {
    await cluster.close();
  }
}

/** What the four parts hand to each other. */
type Parts = {
  readonly settings: OperatorSettings;
  readonly deps: RuntimeDeps;
  readonly metrics: Metrics;
  readonly cluster: ReturnType<typeof openCluster>;
  readonly hub: ReturnType<typeof openHub>;
  readonly store: ModelStore;
};

// ── the API server: connections, caches, events ──

function openCluster(settings: OperatorSettings, deps: RuntimeDeps) {
  const { namespaces } = settings;
  const kubeConfig = loadKubeConfig(settings.kubeconfig, settings.context);
  const transport = createTransport(kubeConfig, {}, deps);
  // The Lease has connections of its own, so that leadership does not wait behind the work; and a renewal that hangs is
  // given up early enough for another one.
  const leaseTransport = createTransport(
    kubeConfig,
    { connections: 2, deadline: millis(LEASE_TIMING.renewBy / 2) },
    deps,
  );
  const cached = <Spec, Status>(plural: string) =>
    createResources<Spec, Status>(transport, { plural, namespaces }, deps);
  const caches = {
    devices: cached<EdgeDeviceSpec, EdgeDeviceStatus>("edgedevices"),
    releases: cached<ModelReleaseSpec, ModelReleaseStatus>("modelreleases"),
    deployments: cached<InferenceDeploymentSpec, InferenceDeploymentStatus>("inferencedeployments"),
  };
  // What namespaces may use; with one tenant no Namespace is read.
  const tenants = settings.tenancy === "open" ? null : createNamespaces(transport, namespaces, deps);
  const grants: GrantOf = tenants === null ? () => OPEN_GRANT : tenants.grants;
  return {
    transport,
    leaseStore: monitorLeaseStore(createLeaseStore(leaseTransport, settings.lease), deps.clock),
    /** Read once: whose devices are ours, and whether the API server stores what we write. */
    clusterId: createPrerequisite(
      async (signal) =>
        settings.clusterId === null ? await readClusterId(transport, signal) : ok(settings.clusterId),
      deps,
    ),
    definitions: createPrerequisite((signal) => checkDefinitions(transport, signal), deps),
    caches,
    tenants,
    grants,
    /** By kind: what must be listed before this replica can lead. */
    informers: [
      { kind: "EdgeDevices", ...caches.devices },
      { kind: "ModelReleases", ...caches.releases },
      { kind: "InferenceDeployments", ...caches.deployments },
      ...(tenants === null ? [] : [{ kind: "Namespaces", ...tenants }]),
    ],
    recorder: createEventRecorder(transport, { instance: settings.lease.identity }, deps),
    secrets: createSecrets(transport),
    close: async () => {
      await Promise.all([transport.close(), leaseTransport.close()]);
    },
  };
}

// ── the hub, read through views ──

function openHub(settings: OperatorSettings, deps: RuntimeDeps) {
  const { tier, units } = settings.hub;
  const azureHub = createAzureHub({
    ...deps,
    access: hubAccess(settings),
    endpoint: hubEndpoint(settings),
    throttle: createThrottle({ clock: deps.clock, budgets: budgetsOf(tier, units) }),
  });
  const fleetView = createFleetView({ ...deps, hub: azureHub, interval: settings.fleetInterval });
  const { hub, view: fleet } = fleetView;
  const configurationView = createConfigurationView({ ...deps, hub, isOurs });
  return {
    hub,
    fleet,
    configurations: configurationView.view,
    fleetView,
    configurationView,
    close: azureHub.close,
  };
}

function hubAccess({ hub: { access } }: OperatorSettings) {
  return access.kind === "connectionString"
    ? access
    : ({ kind: "credential", host: access.host, credential: new DefaultAzureCredential() } as const);
}

function hubEndpoint({ hub: { endpoint, caFile } }: OperatorSettings) {
  if (endpoint === null) return null;
  return caFile === null ? endpoint : { ...endpoint, ca: readFileSync(caFile, "utf8") };
}

// ── the store of blobs ──

function openStore({ store: { access, sasVersion, caFile } }: OperatorSettings, { clock }: RuntimeDeps) {
  return createAzureStore({
    access:
      access.kind === "connectionString"
        ? access
        : { kind: "workloadIdentity", url: access.url, credential: new DefaultAzureCredential() },
    sasVersion,
    ca: caFile === null ? null : readFileSync(caFile, "utf8"),
    clock,
  });
}

// ── controllers ──

function createControllers(
  { settings, deps, cluster, hub, store }: Parts,
  clusterId: string,
): readonly Part[] {
  const { clock, log, meter, random } = deps;
  const { caches, tenants, grants, recorder, secrets } = cluster;
  const { devices, releases, deployments } = caches;
  const { fleet, configurations } = hub;
  const shared = { clock, log, meter, recorder, grants };
  const byId = indexDevices(devices);
  const reverifySlots = createReverifySlots();
  const backoff = exponential(millis(250), minutes(5), random);
  const controller = (spec: Pick<ControllerSpec<ObjectKey>, "name" | "triggers" | "reconcile">): Part => ({
    name: spec.name,
    run: (signal) =>
      runController(
        { ...spec, workers: settings.workers, timeout: RECONCILE_TIMEOUT, backoff },
        deps,
        signal,
      ),
  });
  return [
    controller({
      name: "devices",
      triggers: [...deviceTriggers(caches, { fleet, byId }), grantTrigger(devices, tenants)],
      reconcile: reconcileDevice({
        ...{ ...shared, devices, deployments, hub: hub.hub, fleet, secrets },
        departures: createDepartures(devices, grants, settings.deletionsPerMinute),
        salt: settings.salt,
        clusterId,
      }),
    }),
    controller({
      name: "releases",
      triggers: [...releaseTriggers(caches, reverifySlots), grantTrigger(releases, tenants)],
      reconcile: reconcileRelease({
        ...{ ...shared, releases, store, reverifySlots, keyOf, random },
        verifier: createVerifierClient({ socketPath: settings.verifierSocket }),
        pageOf: reportPage,
      }),
    }),
    controller({
      name: "rollouts",
      triggers: [
        ...rolloutTriggers(caches, { fleet, configurations, byId }, () =>
          ownerlessOf({ settings, cluster, hub }, clusterId).keys(),
        ),
        grantTrigger(deployments, tenants),
      ],
      reconcile: reconcileRollout({
        ...{ ...shared, ...caches, hub: hub.hub, fleet, configurations, store },
        options: {
          salt: settings.salt,
          clusterId,
          analysisInterval: settings.analysisInterval,
          sasLifetime: settings.sasLifetime,
          baseDeployment: settings.baseDeployment,
          namespaces: settings.namespaces,
          ownerlessAfter: settings.ownerlessAfter,
        },
      }),
    }),
  ];
}

/** Configurations of deployments that do not exist, by the deployment's key. */
function ownerlessOf(
  {
    settings: { namespaces },
    cluster: { caches },
    hub: { configurations },
  }: Pick<Parts, "settings" | "cluster" | "hub">,
  clusterId: string,
) {
  const { deployments } = caches;
  return ownerlessConfigurations({ deployments, configurations, namespaces, settings: { clusterId } });
}

// ── running it all ──

async function serve(parts: Parts, signal: AbortSignal): Promise<void> {
  const { settings, deps, cluster, hub } = parts;
  const { fleetView, configurationView } = hub;
  const { informers, clusterId, definitions } = cluster;
  const plan: Plan = {
    always: [
      { name: "probes", run: probesOf(parts).run },
      { name: "events", run: cluster.recorder.run },
      { name: "id of the cluster", run: clusterId.run },
      { name: "check of the definitions", run: definitions.run },
      ...informers.map(({ kind, run }) => ({ name: `list-watch of ${kind}`, run })),
    ],
    ready: async (readySignal) => {
      await Promise.all([
        clusterId.met(readySignal),
        definitions.met(readySignal),
        ...informers.map(({ synced }) => synced(readySignal)),
      ]);
    },
    lead: (leadSignal, body) => lead(settings, deps, cluster.leaseStore, leadSignal, body),
    // Only the leader reads the hub: its budget is small, and a standby has no use for the answers.
    whenLeading: () => [
      { name: "fleet view", run: fleetView.run },
      { name: "configuration view", run: configurationView.run },
      ...createControllers(parts, clusterId.value() ?? "").map((part) => ({
        name: part.name,
        run: async (partSignal: AbortSignal) => {
          await Promise.all([fleetView.synced(partSignal), configurationView.synced(partSignal)]);
          await part.run(partSignal);
        },
      })),
    ],
    drain: settings.drain === 0 ? seconds(1) : settings.drain,
  };
  await runManager(plan, deps, signal);
}

function probesOf(parts: Parts) {
  const { settings, deps, metrics, cluster } = parts;
  const { devices, releases, deployments } = cluster.caches;
  return createProbes(settings.probes, {
    unready: () =>
      whyUnready(
        [cluster.clusterId, cluster.definitions],
        cluster.informers,
        settings.lease.enabled ? { answeredAt: cluster.leaseStore.answeredAt() } : null,
        deps.clock.now(),
      ),
    metrics: () => {
      gaugeCaches(
        {
          listed: cluster.informers.every(({ isSynced }) => isSynced()),
          devices: devices.list(),
          releases: releases.list(),
          deployments: deployments.list(),
        },
        deps.meter,
      );
      const clusterId = cluster.clusterId.value();
      gaugeOwnerless(clusterId === null ? new Map() : ownerlessOf(parts, clusterId), deps.meter);
      return metrics.expose();
    },
    metricsType: metrics.contentType,
    listening: (port) => deps.log.info("serving probes", { port }),
  });
}

/** A process that has lost leadership ends; its next start is an ordinary one. */
async function lead(
  { lease }: OperatorSettings,
  deps: RuntimeDeps,
  store: LeaseStore,
  signal: AbortSignal,
  body: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  if (!lease.enabled) return await leadAlone(deps, signal, body);
  const election = { store, me: lease.identity, timing: LEASE_TIMING };
  await whileLeading(election, deps, signal, async (leading) => {
    await body(leading);
    if (!signal.aborted) throw new Error("leadership was lost");
  });
}

await main().catch((error: unknown) => {
  if (error instanceof ProbeAddressError) {
    process.stderr.write(`edge-fleet-operator: --probe-address: ${error.message}\n`);
    process.exitCode = 2;
    return;
  }
  createLog("error").error("operator ended", error);
  process.exitCode = 1;
});
setTimeout(() => process.exit(), EXIT_WITHIN).unref();
