import { expect, test } from "vitest";
import { objectKey } from "../../api/resource.ts";
import type { Configuration } from "../../hub/hub.ts";
import { LABEL } from "./content.ts";
import { ownerlessConfigurations, ownerlessDeployment } from "./ownerless.ts";

const RESNET = objectKey("plant-a", "resnet");

function configuration(id: string, own: Configuration["labels"]): Configuration {
  const content = { $edgeAgent: {}, inference: {} };
  return { id, kind: "edge", labels: own, priority: 1, targetCondition: "", content, etag: "1" };
}

const labels = {
  [LABEL.namespace]: "plant-a",
  [LABEL.name]: "resnet",
  [LABEL.cluster]: "one",
  [LABEL.owner]: "uid-1",
  [LABEL.release]: "v1",
};

function listed(
  all: readonly Configuration[],
  { namespaces = null, exists = false }: { namespaces?: readonly string[] | null; exists?: boolean } = {},
) {
  return {
    deployments: { get: () => (exists ? {} : undefined) },
    configurations: { list: () => all },
    namespaces,
    settings: { clusterId: "one" },
  };
}

test("a configuration is ownerless when its deployment does not exist and this operator would see it", () => {
  const all = [
    configuration("a", labels),
    configuration("foreign", { ...labels, [LABEL.cluster]: "two" }),
    configuration("base", { [LABEL.base]: "true", [LABEL.cluster]: "one" }),
    configuration("another owner's", {}),
  ];
  const ids = (of: ReturnType<typeof ownerlessConfigurations>) => [...of.values()].flat().map(({ id }) => id);
  expect(ids(ownerlessConfigurations(listed(all)))).toEqual(["a"]);
  expect(ids(ownerlessConfigurations(listed(all, { exists: true })))).toEqual([]);
  expect(ids(ownerlessConfigurations(listed(all, { namespaces: ["plant-a"] })))).toEqual(["a"]);
  expect(ids(ownerlessConfigurations(listed(all, { namespaces: ["plant-b"] })))).toEqual([]);
});

test("what carries no cluster is named, and nothing stands for its deployment", () => {
  const { [LABEL.cluster]: _, ...older } = labels;
  const all = [configuration("a", older)];
  expect([...ownerlessConfigurations(listed(all)).keys()]).toEqual([RESNET]);
  expect(ownerlessDeployment(listed(all), RESNET)).toBeNull();
});

test("what stands for the deployment retains what runs, and selects no device", () => {
  expect(ownerlessDeployment(listed([configuration("a", labels)]), RESNET)).toMatchObject({
    uid: "uid-1",
    deleting: true,
    status: null,
    spec: { selector: {}, module: { name: "inference" }, deletionPolicy: "Retain" },
  });
  expect(ownerlessDeployment(listed([configuration("a", labels)], { exists: true }), RESNET)).toBeNull();
});
