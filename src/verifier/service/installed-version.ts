import { readFile } from "node:fs/promises";
import { findPackageJSON } from "node:module";

// Versions as package.json has them: no process is started for them, and nothing is loaded.

/** Of this product. */
export function productVersion(): Promise<string> {
  return versionIn(findPackageJSON(import.meta.url));
}

/**
 * What goes into verdicts of this machine: the verifier's own version and that of its ONNX Runtime, which `verifierVersion`
 * asks a child process for. Whether ONNX Runtime loads at all is seen in Load.
 */
export async function installedVersion(): Promise<string> {
  return verifierText(await versionIn(findPackageJSON("onnxruntime-node", import.meta.url)));
}

/** How a verifier is named in verdicts. */
export async function verifierText(runtimeVersion: string): Promise<string> {
  return `edgefleet-verifier/${await productVersion()} onnxruntime/${runtimeVersion}`;
}

async function versionIn(path: string | undefined): Promise<string> {
  const manifest: unknown = path === undefined ? null : JSON.parse(await readFile(path, "utf8"));
  const version =
    typeof manifest === "object" && manifest !== null && "version" in manifest ? manifest.version : null;
  return typeof version === "string" ? version : "unknown";
}
