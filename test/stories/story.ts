import type { InferenceDeploymentSpec } from "../../src/api/inference-deployment.ts";
import { canonicalJson } from "../../src/base/digest.ts";
import { minutes, seconds } from "../../src/base/time.ts";
import { LABEL } from "../../src/rollouts/configurations/content.ts";
import type { RolloutOptions } from "../../src/rollouts/reconcile.ts";
import { STEPS, strategy } from "../builders/specs.ts";
import { createFleetWorld, type WorldOptions } from "../fakes/fleet-world.ts";
import { createOperator, type Written } from "./operator.ts";
import { createPeople } from "./people.ts";

// A whole rollout in virtual time: a world, the people in it, the controller, and the promises that hold after every tick.

export type StoryOptions = WorldOptions & {
  readonly tick?: number;
  readonly options?: Partial<RolloutOptions>;
};

export type Story = ReturnType<typeof createStory>;

const WRITES = ["deployments.", "hub.patchTwin", "configurations."];

export function createStory(given: StoryOptions = {}) {
  const { tick = seconds(10), options = {} } = given;
  const world = createFleetWorld(given);
  const written: Written = { specs: new Map(), everVerified: new Set() };
  const operator = createOperator(world, written, { tick, options });
  const people = createPeople(world, written);
  const status = () => operator.current()?.status ?? null;

  /** Brings a first release to every device, without ceremony. */
  async function install(name: string, change: Partial<InferenceDeploymentSpec> = {}): Promise<void> {
    people.release(name);
    people.deploy(name, { ...change, strategy: strategy([{ percent: 100 }]) });
    await operator.runUntil((deployment) => deployment.status?.phase === "Completed", minutes(30));
    await operator.run(minutes(6));
    people.edit({ strategy: change.strategy ?? strategy(STEPS) });
    await operator.step();
    operator.lines.length = 0;
    operator.phases.length = 0;
  }

  /** What is left in the end, without times and ids: two stories that end alike have the same outcome. */
  function outcome() {
    const { phase, stable, candidate, exposure, quarantinedReleases, handledRequests } = status() ?? {};
    return {
      ...{ phase, stable, candidate, exposure },
      quarantined: quarantinedReleases?.map(({ release: name, reason }) => ({ name, reason })),
      handled: handledRequests,
      pointers: Object.fromEntries(
        [...world.truth.pointers()].map(([id, pointer]) => [
          id,
          pointer === null ? null : [pointer.release, pointer.digest],
        ]),
      ),
      configurations: world.truth
        .configurations()
        .map(({ labels, kind, targetCondition }) => [
          ...[labels[LABEL.track], labels[LABEL.release], labels[LABEL.variant]],
          ...[kind, targetCondition],
        ])
        .sort((a, b) => (canonicalJson(a) < canonicalJson(b) ? -1 : 1)),
    };
  }

  return {
    world,
    ...operator,
    ...people,
    install,
    writes: (): readonly string[] =>
      world.calls.made().filter((name) => WRITES.some((write) => name.startsWith(write))),
    outcome,
    status,
    condition: (type: string) => status()?.conditions?.find((one) => one.type === type),
  };
}
