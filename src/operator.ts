import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { DefaultAzureCredential } from "@azure/identity";
import type { EdgeDeviceSpec, EdgeDeviceStatus } from "./api/edge-device.ts";
import type { InferenceDeploymentSpec, InferenceDeploymentStatus } from "./api/inference-deployment.ts";
import type { ModelReleaseSpec, ModelReleaseStatus } from "./api/model-release.ts";
import type { ObjectKey } from "./api/resource.ts";
import { type GrantOf, OPEN_GRANT } from "./api/tenancy.ts";
import { millis, minutes, seconds } from "./base/time.ts";
import { type Config, identityEnvironment, parseConfig } from "./config.ts";
import { createDepartures } from "./devices/departures.ts";
import { reconcileDevice } from "./devices/reconcile.ts";
import { gaugeCaches, gaugeOwnerless } from "./gauges.ts";
import { createAzureHub } from "./hub/azure-hub.ts";
import { createConfigurationView } from "./hub/configuration-view.ts";
import { createFleetView } from "./hub/fleet-view.ts";
import { budgetsOf, createThrottle } from "./hub/throttle.ts";
import { clusterIdOf } from "./kube/cluster-id.ts";
import { createAnnouncer } from "./kube/events.ts";
import {
  createLeaseStore,
  heardLeaseStore,
  LEASE_TIMING,
  type LeaseStore,
  whileLeading,
} from "./kube/lease.ts";
import { createNamespaces } from "./kube/namespaces.ts";
import { createResources } from "./kube/resources.ts";
import { createSecrets } from "./kube/secrets.ts";
import { createTransport, loadKubeConfig } from "./kube/transport.ts";
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
import { type Part, runManager } from "./runtime/manager.ts";
import { createAzureStore } from "./store/azure-store.ts";
import { createLog } from "./telemetry/log.ts";
import { createMetrics } from "./telemetry/metrics.ts";
import { createProbes, ProbeAddressError } from "./telemetry/probes.ts";
import { deviceTriggers, grantTrigger, indexDevices, releaseTriggers, rolloutTriggers } from "./triggers.ts";
import { createVerifierClient } from "./verification/client.ts";
import { keyOf } from "./verification/key.ts";
import { reportPage } from "./verification/report-page.ts";

// The operator: config, adapters, controllers, manager. It reads top to bottom.

const RECONCILE_TIMEOUT = minutes(2);
/** How long after its end the process may be kept alive by what a library still has open, in milliseconds. */
const EXIT_WITHIN = 2000;

async function main(): Promise<void> {
  const parsed = parseConfig(process.argv.slice(2), process.env, {
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
  await operate(parsed.config);
}

async function operate(config: Config): Promise<void> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());

  const metrics = createMetrics("ignore");
  const deps: RuntimeDeps = {
    clock: systemClock(),
    log: createLog(config.logLevel),
    meter: metrics.meter,
    random: Math.random,
  };
  const { clock, log, meter, random } = deps;

  // The API server
  const kubeConfig = loadKubeConfig(config.kubeconfig, config.context);
  const transport = createTransport(kubeConfig, {}, deps);
  // The Lease has connections of its own, so that leadership does not wait behind the work; and a renewal that hangs is
  // given up early enough for another one.
  const leaseTransport = createTransport(
    kubeConfig,
    { connections: 2, deadline: millis(LEASE_TIMING.renewBy / 2) },
    deps,
  );
  const leaseStore = heardLeaseStore(createLeaseStore(leaseTransport, config.lease), clock);
  const { namespaces } = config;
  const devices = createResources<EdgeDeviceSpec, EdgeDeviceStatus>(
    transport,
    { plural: "edgedevices", namespaces },
    deps,
  );
  const releases = createResources<ModelReleaseSpec, ModelReleaseStatus>(
    transport,
    { plural: "modelreleases", namespaces },
    deps,
  );
  const deployments = createResources<InferenceDeploymentSpec, InferenceDeploymentStatus>(
    transport,
    { plural: "inferencedeployments", namespaces },
    deps,
  );
  const caches = { devices, releases, deployments };
  const byId = indexDevices(devices);
  // What namespaces may use; with one tenant no Namespace is read.
  const tenants = config.tenancy === "open" ? null : createNamespaces(transport, namespaces, deps);
  const grants: GrantOf = tenants === null ? () => OPEN_GRANT : tenants.grants;
  const departures = createDepartures(devices, grants, config.deletionsPerMinute);
  const announcer = createAnnouncer(transport, { instance: config.lease.identity }, deps);

  const clusterId = config.clusterId ?? (await clusterIdOf(transport, deps, stop.signal));
  if (clusterId === null) return await transport.close();

  // The hub, read through views
  const azureHub = createAzureHub({
    ...deps,
    access: hubAccess(config),
    endpoint: hubEndpoint(config),
    throttle: createThrottle({ clock, budgets: budgetsOf(config.hub.tier, config.hub.units) }),
  });
  const fleetView = createFleetView({ ...deps, hub: azureHub, interval: config.fleetInterval });
  const { hub, view: fleet } = fleetView;
  const configurationView = createConfigurationView({ ...deps, hub, isOurs });
  const { view: configurations } = configurationView;

  // Blobs and the verifier
  const store = createAzureStore({
    access: storeAccess(config),
    sasVersion: config.store.sasVersion,
    ca: config.store.caFile === null ? null : readFileSync(config.store.caFile, "utf8"),
    clock,
  });
  const verifier = createVerifierClient({ socketPath: config.verifierSocket });
  const reverifySlots = createReverifySlots();

  // Controllers
  const shared = { clock, log, meter, announcer, grants };
  const backoff = exponential(millis(250), minutes(5), random);
  const ownerless = () =>
    ownerlessConfigurations({ deployments, configurations, namespaces, settings: { clusterId } });
  const controller = (spec: Pick<ControllerSpec<ObjectKey>, "name" | "triggers" | "reconcile">): Part => ({
    name: spec.name,
    run: (signal) =>
      runController({ ...spec, workers: config.workers, timeout: RECONCILE_TIMEOUT, backoff }, deps, signal),
  });
  const controllers = [
    controller({
      name: "devices",
      triggers: [...deviceTriggers(caches, { fleet, byId }), grantTrigger(devices, tenants)],
      reconcile: reconcileDevice({
        ...shared,
        devices,
        deployments,
        hub,
        fleet,
        secrets: createSecrets(transport),
        departures,
        salt: config.salt,
        clusterId,
      }),
    }),
    controller({
      name: "releases",
      triggers: [...releaseTriggers(caches, reverifySlots), grantTrigger(releases, tenants)],
      reconcile: reconcileRelease({
        ...shared,
        releases,
        store,
        verifier,
        reverifySlots,
        keyOf,
        pageOf: reportPage,
        random,
      }),
    }),
    controller({
      name: "rollouts",
      triggers: [
        ...rolloutTriggers(caches, { fleet, configurations, byId }, () => ownerless().keys()),
        grantTrigger(deployments, tenants),
      ],
      reconcile: reconcileRollout({
        ...shared,
        ...caches,
        hub,
        fleet,
        configurations,
        store,
        options: {
          salt: config.salt,
          clusterId,
          analysisInterval: config.analysisInterval,
          sasLifetime: config.sasLifetime,
          baseDeployment: config.baseDeployment,
          namespaces,
          ownerlessAfter: config.ownerlessAfter,
        },
      }),
    }),
  ];

  const probes = createProbes(config.probes, {
    unready: () =>
      whyUnready(
        [
          { kind: "EdgeDevices", ...devices },
          { kind: "ModelReleases", ...releases },
          { kind: "InferenceDeployments", ...deployments },
          ...(tenants === null ? [] : [{ kind: "Namespaces", ...tenants }]),
        ],
        config.lease.enabled ? { answeredAt: leaseStore.answeredAt() } : null,
        clock.now(),
      ),
    metrics: () => {
      gaugeCaches(
        { devices: devices.list(), releases: releases.list(), deployments: deployments.list() },
        meter,
      );
      gaugeOwnerless(ownerless(), meter);
      return metrics.expose();
    },
    metricsType: metrics.contentType,
    listening: (port) => log.info("serving probes", { port }),
  });
  try {
    await runManager(
      {
        always: [
          { name: "probes", run: probes.run },
          { name: "events", run: announcer.run },
          { name: "list-watch of EdgeDevices", run: devices.run },
          { name: "list-watch of ModelReleases", run: releases.run },
          { name: "list-watch of InferenceDeployments", run: deployments.run },
          ...(tenants === null ? [] : [{ name: "list-watch of Namespaces", run: tenants.run }]),
        ],
        ready: async (signal) => {
          await Promise.all([devices, releases, deployments, tenants].map((each) => each?.synced(signal)));
        },
        lead: (signal, body) => lead(config, deps, leaseStore, signal, body),
        // Only the leader reads the hub: its budget is small, and a standby has no use for the answers.
        whenLeading: [
          { name: "fleet view", run: fleetView.run },
          { name: "configuration view", run: configurationView.run },
          ...controllers.map((part) => ({
            name: part.name,
            run: async (signal: AbortSignal) => {
              await Promise.all([fleetView.synced(signal), configurationView.synced(signal)]);
              await part.run(signal);
            },
          })),
        ],
        drain: config.drain === 0 ? seconds(1) : config.drain,
      },
      deps,
      stop.signal,
    );
  } finally {
    azureHub.close();
    await Promise.all([transport.close(), leaseTransport.close()]);
  }
}

/** Without leadership there is nothing to go on with: the process ends, and its next start is an ordinary one. */
async function lead(
  config: Config,
  deps: RuntimeDeps,
  store: LeaseStore,
  signal: AbortSignal,
  body: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  if (!config.lease.enabled) return await body(signal);
  await whileLeading(
    { store, me: config.lease.identity, timing: LEASE_TIMING },
    deps,
    signal,
    async (leading) => {
      await body(leading);
      if (!signal.aborted) throw new Error("leadership was lost");
    },
  );
}

function hubAccess({ hub: { access } }: Config) {
  return access.kind === "connectionString"
    ? access
    : ({ kind: "credential", host: access.host, credential: new DefaultAzureCredential() } as const);
}

function hubEndpoint({ hub: { endpoint, caFile } }: Config) {
  if (endpoint === null) return null;
  return caFile === null ? endpoint : { ...endpoint, ca: readFileSync(caFile, "utf8") };
}

function storeAccess({ store: { access } }: Config) {
  return access.kind === "connectionString"
    ? access
    : ({ kind: "workloadIdentity", url: access.url, credential: new DefaultAzureCredential() } as const);
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
