import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";

const GROUP = "edgefleet.dev";
const KINDS = ["EdgeDevice", "InferenceDeployment", "ModelRelease"];

/** The values that give Argo CD's chart the scripts in `folder`, which has the form of Argo CD's resource_customizations. */
export function argocdValues(folder: string): string {
  const settings = KINDS.flatMap((kind) => {
    const read = (path: string) => readFileSync(join(folder, GROUP, kind, path), "utf8");
    const key = (what: string) => `resource.customizations.${what}.${GROUP}_${kind}`;
    const hasActions = existsSync(join(folder, GROUP, kind, "actions/discovery.lua"));
    const names = globSync("actions/*/action.lua", { cwd: join(folder, GROUP, kind) })
      .map((path) => path.split("/")[1] ?? "")
      .sort();
    const actions = {
      "discovery.lua": hasActions ? read("actions/discovery.lua") : "",
      definitions: names.map((name) => ({ name, "action.lua": read(`actions/${name}/action.lua`) })),
    };
    return [
      [key("health"), read("health.lua")],
      ...(hasActions ? [[key("actions"), stringify(actions, { lineWidth: 0 })]] : []),
      // A status that changes without the health, as of a device that goes offline, is no reason to look at the application.
      [key("ignoreResourceUpdates"), stringify({ jsonPointers: ["/status"] })],
    ];
  });
  return stringify({ configs: { cm: Object.fromEntries(settings) } }, { lineWidth: 0 });
}
