import { request } from "node:https";
import { KubeConfig } from "@kubernetes/client-node";

export type Answer = {
  readonly status: number;
  /** The object, or the Status that says why there is none. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every kind
  readonly body: any;
};

export type ApiClient = {
  readonly get: (path: string, accept?: string) => Promise<Answer>;
  readonly post: (path: string, body: unknown) => Promise<Answer>;
  /** The body as it is: the API server reads the YAML. */
  readonly postYaml: (path: string, text: string) => Promise<Answer>;
  readonly mergePatch: (path: string, body: unknown) => Promise<Answer>;
  readonly delete: (path: string) => Promise<Answer>;
};

/** The API server by hand, so that the tests of it do not depend on the transport that they help to test. */
export async function createApiClient(kubeconfig: string): Promise<ApiClient> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const server = new URL(config.getCurrentCluster()?.server ?? "");
  const call = async (
    method: string,
    path: string,
    details: { readonly body?: unknown; readonly type?: string; readonly accept?: string } = {},
  ): Promise<Answer> => {
    const options = {
      host: server.hostname,
      port: server.port,
      method,
      path,
      headers: {
        accept: details.accept ?? "application/json",
        "content-type": details.type ?? "application/json",
      },
    };
    await config.applyToHTTPSOptions(options);
    return await new Promise((resolve, reject) => {
      const asked = request(options, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
      });
      asked.on("error", reject);
      const { body } = details;
      asked.end(body === undefined || typeof body === "string" ? body : JSON.stringify(body));
    });
  };
  return {
    get: (path, accept) => call("GET", path, accept === undefined ? {} : { accept }),
    post: (path, body) => call("POST", path, { body }),
    postYaml: (path, body) => call("POST", path, { body, type: "application/yaml" }),
    mergePatch: (path, body) => call("PATCH", path, { body, type: "application/merge-patch+json" }),
    delete: (path) => call("DELETE", path),
  };
}
