import { expect, test } from "vitest";
import type { InferenceDeploymentSpec } from "../../src/api/inference-deployment.ts";
import { FINALIZER, type ObjectKey, objectKey } from "../../src/api/resource.ts";
import { OPEN_GRANT } from "../../src/api/tenancy.ts";
import { minutes, seconds } from "../../src/base/time.ts";
import { LABEL } from "../../src/rollouts/configurations/content.ts";
import { ownerlessConfigurations } from "../../src/rollouts/configurations/ownerless.ts";
import { type RolloutOptions, reconcileRollout } from "../../src/rollouts/reconcile.ts";
import { deploymentSpec, deviceSpec, duration, releaseSpec, strategy } from "../builders/specs.ts";
import { createFakeLog } from "../fakes/fake-log.ts";
import { createFakeMeter } from "../fakes/fake-meter.ts";
import { CLUSTER, createFleetWorld, NAMESPACE, SALT, type WorldOptions } from "../fakes/fleet-world.ts";

// Deployments that are renamed, merged, narrowed, deleted and lost, several at a time on one world.

const RESNET = objectKey(NAMESPACE, "resnet");
const RENAMED = objectKey(NAMESPACE, "resnet-line-7");
const OTHER = objectKey(NAMESPACE, "other");
const WAYS = ["keep", "remove"] as const;

type Options = WorldOptions & {
  readonly options?: Partial<RolloutOptions>;
  readonly devices?: number;
};

function begin({ devices = 20, options = {}, ...given }: Options = {}) {
  const world = createFleetWorld(given);
  const log = createFakeLog();
  const lines: string[] = [];
  const restart = () =>
    reconcileRollout({
      ...world,
      recorder: { record: (_about, note) => void lines.push(`${note.reason}: ${note.message}`) },
      log,
      meter: createFakeMeter(),
      grants: () => OPEN_GRANT,
      options: { salt: SALT, clusterId: CLUSTER, ...options },
    });
  let reconcile = restart();
  for (let index = 0; index < devices; index += 1)
    world.devices.create({
      name: `cam-${String(index).padStart(3, "0")}`,
      labels: { fleet: "cameras", half: index % 2 === 0 ? "even" : "odd" },
      spec: deviceSpec(),
    });

  const ownerless = () =>
    ownerlessConfigurations({ ...world, namespaces: null, settings: { clusterId: CLUSTER } });

  async function reconcileAll(): Promise<void> {
    const keys = new Set<ObjectKey>([
      ...world.deployments.list().map(({ key }) => key),
      ...ownerless().keys(),
    ]);
    for (const key of keys) {
      for (let round = 0; round < 10; round += 1) {
        const rest = await reconcile(key, new AbortController().signal);
        if (rest.kind !== "wakeAfter" || rest.delay > 0) break;
      }
    }
  }

  function without(): readonly string[] {
    return [...world.truth.pointers()].flatMap(([device, pointer]) => (pointer === null ? [device] : []));
  }

  /** Lets time go by; `watch` sees the world after every tick. */
  async function run(length: number, watch: () => void = () => undefined): Promise<void> {
    const end = world.now() + length;
    while (world.now() < end) {
      world.advance(seconds(10));
      watch();
      await reconcileAll();
      watch();
    }
  }

  function release(name: string): void {
    world.releases.create({ name, spec: releaseSpec(name) });
    const variants = releaseSpec(name).variants.map((one) => ({
      name: one.name,
      digest: one.digest,
      sizeBytes: 1,
      verdict: "Passed" as const,
    }));
    world.releases.setStatus(objectKey(NAMESPACE, name), { variants });
  }

  function deploy(key: ObjectKey, releaseName: string, change: Partial<InferenceDeploymentSpec> = {}): void {
    const spec = deploymentSpec(releaseName, change);
    world.deployments.create({ name: key.slice(NAMESPACE.length + 1), finalizers: [FINALIZER], spec });
  }

  /** Brings v1 to every device. */
  async function install(
    key: ObjectKey = RESNET,
    change: Partial<InferenceDeploymentSpec> = {},
    unselected = 0,
  ): Promise<void> {
    release("v1");
    deploy(key, "v1", { strategy: strategy([{ percent: 100 }]), ...change });
    await run(minutes(15));
    expect(status(key)?.phase).toBe("Completed");
    expect(without().length).toBe(unselected);
  }

  const status = (key: ObjectKey) => world.deployments.get(key)?.status ?? null;
  const ready = (key: ObjectKey) =>
    status(key)?.conditions?.find(({ type }) => type === "Ready")?.message ?? "";
  const ids = (key: ObjectKey) =>
    world.truth
      .configurations()
      .flatMap(({ id, labels }) =>
        objectKey(labels[LABEL.namespace] ?? "", labels[LABEL.name] ?? "") === key ? [id] : [],
      );
  const owners = () =>
    new Set([...world.truth.pointers().values()].map((pointer) => pointer?.deployment ?? "none"));

  return {
    world,
    log,
    lines,
    run,
    without,
    release,
    deploy,
    install,
    status,
    ready,
    ids,
    owners,
    ownerless,
    /** Everything that the operator had in memory is forgotten. */
    restart: () => {
      reconcile = restart();
    },
    /** As when somebody replaces the object without its finalizers. */
    lose: (key: ObjectKey) => {
      const object = world.deployments.get(key)!;
      void world.deployments.setFinalizer(object, "remove", new AbortController().signal);
      world.deployments.remove(key);
    },
  };
}

const HALF = strategy([{ percent: 50, hold: duration("2h") }, { percent: 100 }]);

function devicesAlwaysHaveAModel(story: ReturnType<typeof begin>): () => void {
  return () => {
    expect(story.without()).toEqual([]);
    const idle = [...story.world.truth.running()].filter(([, running]) => running === null);
    expect(idle).toEqual([]);
  };
}

for (const unmatched of WAYS) {
  const evaluationDelay = () => minutes(3);

  test(`a renamed deployment takes over what runs, new one first (a hub that would ${unmatched})`, async () => {
    const story = begin({ unmatched, evaluationDelay });
    await story.install();
    story.deploy(RENAMED, "v1");
    const watch = devicesAlwaysHaveAModel(story);
    await story.run(minutes(2), watch);
    expect(story.status(RENAMED)?.stable).toBeUndefined();
    story.world.deployments.remove(RESNET);
    await story.run(minutes(20), watch);
    expect(story.status(RENAMED)).toMatchObject({ phase: "Completed", stable: { release: "v1" } });
    expect(story.world.deployments.get(RESNET)).toBeUndefined();
    expect(story.ids(RESNET)).toEqual([]);
    expect(story.owners()).toEqual(new Set(["plant-a.resnet-line-7"]));
    // No canary of the bytes that run already.
    expect(story.lines.some((line) => line.includes("devices exposed") && line.includes("10 %"))).toBe(false);
    expect(story.lines.join("\n")).toContain("taken over from resnet");
  });

  test(`a renamed deployment takes over what runs, old one deleted first (a hub that would ${unmatched})`, async () => {
    const story = begin({ unmatched, evaluationDelay });
    await story.install();
    const watch = devicesAlwaysHaveAModel(story);
    story.world.deployments.remove(RESNET);
    story.deploy(RENAMED, "v1");
    await story.run(minutes(20), watch);
    expect(story.status(RENAMED)?.phase).toBe("Completed");
    expect(story.world.deployments.get(RESNET)).toBeUndefined();
    expect(story.owners()).toEqual(new Set(["plant-a.resnet-line-7"]));
  });

  test(`a renamed deployment with another release goes out from what runs (a hub that would ${unmatched})`, async () => {
    const story = begin({ unmatched, evaluationDelay });
    await story.install();
    story.release("v2");
    const watch = devicesAlwaysHaveAModel(story);
    story.deploy(RENAMED, "v2");
    story.world.deployments.remove(RESNET);
    let most = 0;
    await story.run(minutes(5), () => {
      watch();
      const running = [...story.world.truth.pointers().values()];
      most = Math.max(most, running.filter((pointer) => pointer?.release === "plant-a.v2").length);
    });
    expect(most).toBeLessThanOrEqual(2);
    expect(story.status(RENAMED)).toMatchObject({ stable: { release: "v1" }, candidate: { release: "v2" } });
    await story.run(minutes(60), watch);
    expect(story.status(RENAMED)).toMatchObject({ phase: "Completed", stable: { release: "v2" } });
  });

  test(`a deployment that is deleted leaves what runs where it is (a hub that would ${unmatched})`, async () => {
    const story = begin({ unmatched, evaluationDelay });
    await story.install();
    // With another deployment the base stays, and the hub goes on evaluating.
    story.deploy(OTHER, "v1", { selector: { matchLabels: { fleet: "none" } } });
    story.world.deployments.remove(RESNET);
    await story.run(minutes(20));
    expect(story.world.deployments.get(RESNET)).toBeUndefined();
    expect(story.ids(RESNET)).toEqual([]);
    expect(story.without()).toEqual([]);
    await story.run(minutes(30));
    expect(story.without()).toEqual([]);
    // Made again under its name, it finds what it had left.
    story.deploy(RESNET, "v1");
    await story.run(minutes(20), () => expect(story.without()).toEqual([]));
    expect(story.status(RESNET)).toMatchObject({ phase: "Completed", stable: { release: "v1" } });
  });
}

test("the last deployment takes its base with it, and what runs stays", async () => {
  const story = begin({ unmatched: "remove", evaluationDelay: () => minutes(3) });
  await story.install();
  story.world.deployments.remove(RESNET);
  await story.run(minutes(30), () => expect(story.without()).toEqual([]));
  expect(story.world.deployments.get(RESNET)).toBeUndefined();
  expect(story.world.truth.configurations()).toEqual([]);
});

test("devices stay with the old deployment for as long as the hub takes no configuration of the new one", async () => {
  const story = begin({ unmatched: "remove" });
  await story.install();
  const watch = devicesAlwaysHaveAModel(story);
  story.world.calls.breakAll("configurations.create", { kind: "unavailable", message: "503" });
  story.deploy(RENAMED, "v1");
  story.world.deployments.remove(RESNET);
  await story.run(minutes(20), watch);
  expect(story.owners()).toEqual(new Set(["plant-a.resnet"]));
  expect(story.ready(RESNET)).toBe(
    "being deleted; 20 devices are being handed over to resnet-line-7 and keep what they run until then: kubectl -n plant-a describe idep resnet-line-7",
  );
  story.world.calls.heal();
  await story.run(minutes(20), watch);
  expect(story.owners()).toEqual(new Set(["plant-a.resnet-line-7"]));
  expect(story.world.deployments.get(RESNET)).toBeUndefined();
});

test("what most devices were trying when their deployment went is not taken over as stable", async () => {
  const story = begin({ unmatched: "remove", evaluationDelay: () => minutes(3) });
  await story.install();
  story.release("v2");
  const { spec } = story.world.deployments.get(RESNET)!;
  const wide = strategy([{ percent: 80, hold: duration("2h") }, { percent: 100 }]);
  story.world.deployments.edit(RESNET, { spec: { ...spec, release: { name: "v2" }, strategy: wide } });
  await story.run(minutes(10));
  story.deploy(RENAMED, "v2");
  story.world.deployments.remove(RESNET);
  await story.run(minutes(2), () => expect(story.without()).toEqual([]));
  expect(story.status(RENAMED)).toMatchObject({ stable: { release: "v1" }, candidate: { release: "v2" } });
});

test("a deployment that is renamed while a canary is out returns its devices to stable, not to nothing", async () => {
  const story = begin({ unmatched: "remove", evaluationDelay: () => minutes(3) });
  await story.install();
  story.release("v2");
  const { spec } = story.world.deployments.get(RESNET)!;
  story.world.deployments.edit(RESNET, { spec: { ...spec, release: { name: "v2" }, strategy: HALF } });
  await story.run(minutes(10));
  const onV2 = () =>
    [...story.world.truth.pointers().values()].filter((pointer) => pointer?.release === "plant-a.v2");
  expect(onV2().length).toBe(10);
  story.deploy(RENAMED, "v1");
  story.world.deployments.remove(RESNET);
  await story.run(minutes(20), () => expect(story.without()).toEqual([]));
  expect(story.status(RENAMED)).toMatchObject({ phase: "Completed", stable: { release: "v1" } });
  expect(onV2()).toEqual([]);
  expect(story.world.deployments.get(RESNET)).toBeUndefined();
});

test("a deletion in the middle of a canary returns its devices to stable before it lets go", async () => {
  const story = begin({ unmatched: "remove", evaluationDelay: () => minutes(4) });
  await story.install();
  story.release("v2");
  const { spec } = story.world.deployments.get(RESNET)!;
  story.world.deployments.edit(RESNET, { spec: { ...spec, release: { name: "v2" }, strategy: HALF } });
  await story.run(minutes(10));
  story.world.deployments.remove(RESNET);
  await story.run(minutes(30));
  expect(story.world.deployments.get(RESNET)).toBeUndefined();
  expect(story.world.truth.configurations()).toEqual([]);
  const releases = [...story.world.truth.pointers().values()].map((pointer) => pointer?.release);
  expect(new Set(releases)).toEqual(new Set(["plant-a.v1"]));
});

test("a deletion that removes waits all the same for devices that another deployment takes over", async () => {
  const story = begin({ evaluationDelay: () => minutes(3) });
  await story.install(RESNET, { deletionPolicy: "Remove" });
  story.deploy(RENAMED, "v1", { selector: { matchLabels: { half: "even" } } });
  story.world.deployments.remove(RESNET);
  await story.run(minutes(20));
  expect(story.world.deployments.get(RESNET)).toBeUndefined();
  const left = [...story.world.truth.pointers()].filter(([, pointer]) => pointer !== null);
  expect(left.map(([device]) => device)).toEqual(
    Array.from({ length: 10 }, (_, index) => `cam-${String(index * 2).padStart(3, "0")}`),
  );
  expect(new Set(left.map(([, pointer]) => pointer?.deployment))).toEqual(new Set(["plant-a.resnet-line-7"]));
});

test("a deployment whose devices two others want at once keeps them until one of the two lets go", async () => {
  const story = begin({ unmatched: "remove", evaluationDelay: () => minutes(1) });
  await story.install();
  story.deploy(RENAMED, "v1");
  story.deploy(OTHER, "v1", { deletionPolicy: "Remove" });
  story.world.deployments.remove(RESNET);
  const watch = devicesAlwaysHaveAModel(story);
  await story.run(minutes(30), watch);
  expect(story.ready(RESNET)).toBe(
    "being deleted; 20 devices are selected by other, resnet-line-7: narrow the selectors so that only one of them takes the devices over",
  );
  story.world.deployments.remove(OTHER);
  await story.run(minutes(20), watch);
  expect(story.world.deployments.get(RESNET)).toBeUndefined();
  expect(story.owners()).toEqual(new Set(["plant-a.resnet-line-7"]));
});

test("devices that move from one deployment to a new one keep what they run", async () => {
  const story = begin({ unmatched: "remove", evaluationDelay: () => minutes(3) });
  await story.install();
  story.release("v2");
  const watch = devicesAlwaysHaveAModel(story);
  const { spec } = story.world.deployments.get(RESNET)!;
  const narrowed = { ...spec, selector: { matchLabels: { half: "odd" } } };
  story.world.deployments.edit(RESNET, { spec: narrowed });
  story.deploy(RENAMED, "v2", {
    selector: { matchLabels: { half: "even" } },
    strategy: strategy([{ percent: 20, hold: duration("2h") }, { percent: 100 }]),
  });
  await story.run(minutes(20), watch);
  expect(story.status(RENAMED)).toMatchObject({ stable: { release: "v1" }, candidate: { release: "v2" } });
  const moved = [...story.world.truth.pointers().values()].filter(
    (pointer) => pointer?.deployment === "plant-a.resnet-line-7",
  );
  expect(moved.filter((pointer) => pointer?.release === "plant-a.v1").length).toBe(8);
  expect(moved.filter((pointer) => pointer?.release === "plant-a.v2").length).toBe(2);
});

test("one device that moved in does not decide what the others get", async () => {
  const story = begin({ devices: 10 });
  await story.install(RESNET, { selector: { matchLabels: { half: "even" } } }, 5);
  story.release("v2");
  const moved = story.world.devices.list().find(({ name }) => name === "cam-000")!;
  story.world.devices.edit(moved.key, { labels: { half: "odd" } });
  story.deploy(RENAMED, "v2", { selector: { matchLabels: { half: "odd" } } });
  await story.run(minutes(2));
  expect(story.status(RENAMED)).toMatchObject({ candidate: { release: "v2" } });
  expect(story.status(RENAMED)?.stable).toBeUndefined();
  expect(story.without().length).toBe(4);
});

test("a takeover survives an operator that forgets everything at every step", async () => {
  const story = begin({ unmatched: "remove", evaluationDelay: () => minutes(2) });
  await story.install();
  story.deploy(RENAMED, "v1");
  story.world.deployments.remove(RESNET);
  const watch = devicesAlwaysHaveAModel(story);
  await story.run(minutes(20), () => {
    watch();
    story.restart();
  });
  expect(story.status(RENAMED)?.phase).toBe("Completed");
  expect(story.world.deployments.get(RESNET)).toBeUndefined();
});

// ── configurations without an owner

test("configurations whose deployment lost its finalizer are named, and removed after a while, and devices keep what runs", async () => {
  for (const unmatched of WAYS) {
    const story = begin({
      unmatched,
      evaluationDelay: () => minutes(3),
      options: { ownerlessAfter: minutes(60) },
    });
    await story.install();
    story.deploy(OTHER, "v1", { selector: { matchLabels: { fleet: "none" } } });
    story.lose(RESNET);
    await story.run(minutes(50), () => expect(story.without()).toEqual([]));
    expect(story.ids(RESNET).length).toBe(1);
    expect(story.lines.filter((line) => line.startsWith("OwnerlessConfigurations"))).toEqual([
      `OwnerlessConfigurations: InferenceDeployment plant-a/resnet does not exist, and the hub still has 1 of its configurations (${story.ids(RESNET)[0]}): they will be removed in 1h unless it is recreated`,
    ]);
    await story.run(minutes(40));
    expect(story.ids(RESNET)).toEqual([]);
    expect(story.ownerless().size).toBe(0);
    expect(story.without()).toEqual([]);
    await story.run(minutes(30));
    expect(story.without()).toEqual([]);
  }
});

test("a deployment that comes back in time keeps its configurations, and a restart begins the wait again", async () => {
  const story = begin({ options: { ownerlessAfter: minutes(60) } });
  await story.install();
  const before = story.ids(RESNET);
  story.lose(RESNET);
  await story.run(minutes(50));
  story.restart();
  await story.run(minutes(50));
  expect(story.ids(RESNET)).toEqual(before);
  story.deploy(RESNET, "v1");
  await story.run(minutes(120));
  expect(story.ids(RESNET)).toEqual(before);
  expect(story.status(RESNET)).toMatchObject({ phase: "Completed", stable: { release: "v1" } });
});

test("configurations of another cluster, and those that may be its, are never touched", async () => {
  const story = begin({ options: { ownerlessAfter: minutes(10) } });
  await story.install();
  const [mine] = story.world.truth.configurations().filter(({ labels }) => labels[LABEL.name] !== undefined);
  const unnamed = { [LABEL.namespace]: NAMESPACE, [LABEL.name]: "elsewhere", [LABEL.track]: "stable" };
  const put = (id: string, priority: number, labels: Readonly<Record<string, string>>) =>
    story.world.truth.addConfiguration({ ...mine!, id, priority, labels });
  put("ef-other-cluster", 300, { ...unnamed, [LABEL.cluster]: "cluster-2" });
  put("ef-older-version", 301, unnamed);
  put("ef-base-other", 50, { [LABEL.base]: "true", [LABEL.cluster]: "cluster-2" });
  await story.run(minutes(60));
  const left = () => story.world.truth.configurations().map(({ id }) => id);
  expect(left()).toEqual(expect.arrayContaining(["ef-other-cluster", "ef-older-version", "ef-base-other"]));
  expect([...story.ownerless().keys()]).toEqual(["plant-a/elsewhere"]);
  // The last deployment of this cluster leaves the base that the other one builds on.
  story.world.deployments.remove(RESNET);
  await story.run(minutes(30));
  expect(left().filter((id) => id.startsWith("ef-base-")).length).toBe(2);
});

function namesake(story: ReturnType<typeof begin>, targetCondition: string): void {
  story.world.truth.addConfiguration({
    id: "ef-theirs",
    kind: "edge",
    labels: { [LABEL.namespace]: NAMESPACE, [LABEL.name]: "resnet", [LABEL.cluster]: "cluster-2" },
    priority: 300,
    targetCondition,
    content: {},
    etag: "1",
  });
}

test("a deployment of the same name in another cluster goes its own way once conditions name the cluster", async () => {
  const story = begin();
  story.release("v1");
  namesake(
    story,
    "tags.edgefleet.deployments.inference = 'plant-a.resnet' AND tags.edgefleet.cluster = 'cluster-2'",
  );
  story.deploy(RESNET, "v1");
  await story.run(minutes(60));
  expect(story.ready(RESNET)).not.toContain("another name or namespace");
  expect(story.ids(RESNET).length).toBeGreaterThan(1);
  expect(story.ids(RESNET)).toContain("ef-theirs");
});

test("a deployment of the same name in another cluster stops a rollout before it begins", async () => {
  const story = begin();
  story.release("v1");
  namesake(story, "tags.edgefleet.deployments.inference = 'plant-a.resnet'");
  story.deploy(RESNET, "v1");
  await story.run(minutes(10));
  expect(story.ready(RESNET)).toContain("cluster cluster-2 also has a deployment plant-a/resnet on this hub");
  expect(story.ids(RESNET)).toEqual(["ef-theirs"]);
  story.world.deployments.remove(RESNET);
  await story.run(minutes(30));
  expect(story.ids(RESNET)).toEqual(["ef-theirs"]);
});
