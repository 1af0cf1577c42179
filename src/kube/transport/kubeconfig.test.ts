import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { loadKubeConfig } from "./kubeconfig.ts";

describe("kubeconfigs", () => {
  function write(name: string, clusters: Readonly<Record<string, string>>, current: string): string {
    const directory = mkdtempSync(join(tmpdir(), "edgefleet-kubeconfig-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const names = Object.keys(clusters);
    const content = {
      "current-context": current,
      clusters: names.map((cluster) => ({
        name: cluster,
        cluster: { server: clusters[cluster], "certificate-authority": "pki/ca.crt" },
      })),
      users: [{ name, user: { "client-certificate": "pki/client.crt", "client-key": "pki/client.key" } }],
      contexts: names.map((cluster) => ({ name: cluster, context: { cluster, user: name } })),
    };
    const path = join(directory, "config");
    writeFileSync(path, JSON.stringify(content));
    return path;
  }

  test("of several files the first that sets a name wins, and missing files are left out", () => {
    const first = write("ada", { a: "https://a.example" }, "a");
    const second = write("bob", { a: "https://other.example", b: "https://b.example" }, "b");
    const paths = ["/nowhere/config", first, "", second].join(delimiter);
    const config = loadKubeConfig(paths, null);
    expect(config.getCurrentCluster()?.server).toBe("https://a.example");
    expect(loadKubeConfig(paths, "b").getCurrentCluster()?.server).toBe("https://b.example");
    expect(loadKubeConfig(paths, "b").getCurrentUser()?.name).toBe("bob");
  });

  test("a file without a current context leaves it to the next", () => {
    const paths = [
      write("ada", { a: "https://a.example" }, ""),
      write("bob", { b: "https://b.example" }, "b"),
    ];
    expect(loadKubeConfig(paths.join(delimiter), null).getCurrentCluster()?.server).toBe("https://b.example");
  });

  test("relative paths in a file are resolved against its directory", () => {
    const [first, second] = [
      write("ada", { a: "https://a.example" }, "a"),
      write("bob", { b: "https://b" }, "b"),
    ];
    for (const [path, context] of [
      [first, "a"],
      [second, "b"],
    ] as const) {
      const config = loadKubeConfig([first, second].join(delimiter), context);
      expect(config.getCurrentCluster()?.caFile).toBe(join(path, "../pki/ca.crt"));
      expect(config.getCurrentUser()).toMatchObject({
        certFile: join(path, "../pki/client.crt"),
        keyFile: join(path, "../pki/client.key"),
      });
    }
  });

  test("where no file exists, the error names all that were looked for", () => {
    expect(() => loadKubeConfig(["/nowhere/a", "/nowhere/b"].join(delimiter), null)).toThrow(
      "there is no kubeconfig at /nowhere/a, nor at /nowhere/b",
    );
  });
});
