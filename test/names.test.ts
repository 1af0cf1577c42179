import { describe, expect, test } from "vitest";
import { bucketOf, matches, membershipsOf, qualifiedName, stratumOf } from "../src/api/membership.ts";
import { variantFor } from "../src/api/model-release.ts";
import { ownerOf } from "../src/api/ownership.ts";
import { OPEN_GRANT } from "../src/api/tenancy.ts";
import { dictionary, own, setOwn } from "../src/base/lookup.ts";
import { instant } from "../src/base/time.ts";
import { decideDevice } from "../src/devices/decide.ts";
import { statusOf } from "../src/devices/report/report.ts";
import { type DeviceSeen, NOT_ACTED } from "../src/devices/seen.ts";
import { tagsPatch } from "../src/devices/tags.ts";
import { fleetTagsOf, pointerOf, reportOf } from "../src/hub/reports.ts";
import { decideRelease } from "../src/releases/decide.ts";
import { decideRollout } from "../src/rollouts/decide.ts";
import {
  deploymentSpec,
  deviceSpec,
  edgeDevice,
  inferenceDeployment,
  rollingStatus,
} from "./builders/fleet.ts";
import { variant as builtVariant, modelRelease, releaseSpec } from "./builders/releases.ts";
import { mergePatch } from "./fakes/fake-registry.ts";
import { look, memberAt, NOW, releaseNamed, running } from "./stories/seen.ts";

// The names that every object inherits, wherever a person, a device or a hub may write a name.

const NAMES = Object.getOwnPropertyNames(Object.prototype);

describe.each(NAMES)("%s", (name) => {
  test("is a key like any other, and no key of an empty object", () => {
    const written: Record<string, number> = {};
    expect(own(written, name)).toBeUndefined();
    setOwn(written, name, 1);
    expect([own(written, name), Object.keys(written), Object.getPrototypeOf(written)]).toEqual([
      1,
      [name],
      Object.prototype,
    ]);
    expect(dictionary<number>([])[name]).toBeUndefined();
    expect(dictionary([[name, 1]])[name]).toBe(1);
  });

  test("as the key of a label is there only where somebody wrote it", () => {
    const selector = (operator: "Exists" | "DoesNotExist") => ({
      matchExpressions: [{ key: name, operator }],
    });
    expect(matches(selector("Exists"), {})).toBe(false);
    expect(matches(selector("DoesNotExist"), {})).toBe(true);
    const labels = Object.fromEntries([[name, "1"]]);
    expect(matches(selector("Exists"), labels)).toBe(true);
    expect(matches({ matchLabels: labels }, labels)).toBe(true);
    expect(matches({ matchLabels: labels }, {})).toBe(false);
  });

  test.each(["spec", "candidate", "stable"])("as the name of a release that is not there (%s)", (place) => {
    const status = rollingStatus(1_000_000);
    const reference = { release: name, digests: [] };
    const seen = look(place === "spec" ? { release: name, releases: [] } : { releases: [] });
    const deployment =
      place === "spec" ? seen.deployment : { ...seen.deployment, status: { ...status, [place]: reference } };
    expect(decideRollout({ ...seen, deployment })).toMatchObject({ kind: "live" });
  });

  test("as the name of a release that is there", () => {
    const releases = [releaseNamed(name)];
    const members = [running(memberAt(0, { device: name, site: name, deviceClass: name }), name, 40)];
    expect(decideRollout(look({ release: name, releases, members }))).toMatchObject({ kind: "live" });
  });

  test("as the name of a variant", () => {
    const spec = releaseSpec({ variants: [builtVariant(name, { deviceClasses: [name] })] });
    expect(variantFor(spec.variants, name)?.name).toBe(name);
    expect(variantFor([builtVariant("fp32", { deviceClasses: ["x"] })], name)).toBeNull();
    const release = modelRelease({ name, spec });
    expect(() => decideRelease({ now: NOW, release, grant: OPEN_GRANT, variants: [] })).not.toThrow();
  });

  test("as a stratum", () => {
    expect(
      stratumOf([{ site: name, deviceClass: name, threshold: 1, devices: 1 }], {
        site: undefined,
        deviceClass: "x",
      }),
    ).toBeUndefined();
    expect(bucketOf(name, name)).toBeLessThan(1_000_000);
  });

  test.each([true, false])(
    "as everything that an EdgeDevice and its tags can say (IoT Edge: %s)",
    (iotEdge) => {
      const module = { name };
      const device = edgeDevice({
        name,
        labels: Object.fromEntries([[name, name]]),
        spec: deviceSpec({
          deviceId: name,
          deviceClass: name,
          site: name,
          iotEdge,
          tags: Object.fromEntries([[name, name]]),
        }),
      });
      const deployment = inferenceDeployment({
        name,
        spec: deploymentSpec({ module, selector: { matchLabels: device.labels } }),
        status: { ...rollingStatus(0), stable: { release: name, digests: [] } },
      });
      const lookedAt = (said: Readonly<Record<string, unknown>>): DeviceSeen => ({
        now: instant(0),
        device,
        deviceId: name,
        host: name,
        salt: name,
        clusterId: name,
        succeeds: false,
        successor: null,
        handedTo: "none",
        grant: OPEN_GRANT,
        mustWait: false,
        deployments: [deployment],
        hub: {
          kind: "present",
          generationId: "1",
          enabled: true,
          iotEdge,
          identityEtag: null,
          etag: "1",
          tags: said,
          slots: {},
        },
        hubReachable: true,
      });
      expect(membershipsOf(device, [deployment])).toEqual([{ kind: "member", module: name, deployment }]);
      const plan = decideDevice(lookedAt({}));
      const action = plan.kind === "keep" ? plan.actions.find(({ kind }) => kind === "patchTags") : undefined;
      if (action?.kind !== "patchTags") throw new Error("no tags are written");
      const tags = mergePatch({}, tagsPatch(action.wanted, {}) ?? {});
      expect(own(tags, name)).toBe(name);
      expect(tagsPatch(action.wanted, tags)).toBeNull();
      expect(ownerOf(tags)).toEqual({ cluster: name, namespace: "plant-a", device: name });
      expect(own(fleetTagsOf(tags)?.deployments, name)).toBe(qualifiedName(deployment));
      const after = lookedAt(tags);
      const status = statusOf(after, decideDevice(after), NOT_ACTED, null);
      expect(status?.placement).toMatchObject({ deployment: name, module: name, release: name });
      expect(status?.model).toBeUndefined();
    },
  );

  test("as what a device reports", () => {
    const said = { release: name, digest: name, variant: name, executionProvider: name, since: name };
    expect(reportOf({ active: said, heartbeatAt: name })?.active).toEqual(said);
    expect(reportOf({ update: { ...said, state: name }, heartbeatAt: name })?.update).toBeUndefined();
    expect(pointerOf(Object.fromEntries([[name, name]]))).toBeNull();
  });
});
