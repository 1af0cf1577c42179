import { createRequire } from "node:module";
import { runProgram, untilReady } from "./program.ts";
import { temporaryDirectory } from "./temporary-directory.ts";

/** Azurite's blob service on a free port of loopback. Account and key are the public ones of every Azurite. */
export type Azurite = {
  /** With the account's name in its path, as the SDK wants it. */
  readonly url: string;
  readonly accountName: string;
  readonly accountKey: string;
  readonly connectionString: string;
  /** Its data is in memory and goes with it. */
  readonly stop: () => Promise<void>;
};

const ACCOUNT_NAME = "devstoreaccount1";
const ACCOUNT_KEY =
  "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const READY_MILLISECONDS = 60_000;

/**
 * Starts it in the background. With `tls` (paths of PEM files) it speaks HTTPS and takes bearer tokens, whose signatures it
 * does not check: that is what a user-delegation SAS needs.
 */
export async function startAzurite(
  options: { readonly tls?: { readonly cert: string; readonly key: string } } = {},
): Promise<Azurite> {
  const { tls } = options;
  const { path: directory, remove: removeDirectory } = await temporaryDirectory("edgefleet-azurite-");
  try {
    const server = runProgram({
      name: "azurite",
      args: [
        createRequire(import.meta.url).resolve("azurite/dist/src/blob/main.js"),
        "--blobHost=127.0.0.1",
        "--blobPort=0",
        "--inMemoryPersistence",
        // The SDK speaks a newer service version than this Azurite has heard of.
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--disableProductStyleUrl",
        "--silent",
        ...(tls === undefined ? [] : [`--cert=${tls.cert}`, `--key=${tls.key}`, "--oauth=basic"]),
      ],
      cwd: directory,
      // SIGTERM waits for clients that have left a response body unread; the data is in memory, so nothing is lost.
      grace: 0,
      background: true,
    });
    try {
      const endpoint = await untilReady(server, READY_MILLISECONDS, () => endpointIn(server.output()));
      const url = `${endpoint}/${ACCOUNT_NAME}`;
      return {
        url,
        accountName: ACCOUNT_NAME,
        accountKey: ACCOUNT_KEY,
        connectionString: `DefaultEndpointsProtocol=${new URL(url).protocol.slice(0, -1)};AccountName=${ACCOUNT_NAME};AccountKey=${ACCOUNT_KEY};BlobEndpoint=${url};`,
        stop: async () => {
          await server.stop();
          await removeDirectory();
        },
      };
    } catch (error) {
      await server.stop();
      throw error;
    }
  } catch (error) {
    await removeDirectory();
    throw error;
  }
}

function endpointIn(output: string): string | null {
  return /successfully listen(?:s|ing) on (https?:\/\/\S+)\s/.exec(output)?.[1]?.replace(/\/$/, "") ?? null;
}
