import { readdir, readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { parseArgs } from "node:util";
import {
  BlobServiceClient,
  type BlockBlobClient,
  type ContainerClient,
  RestError,
} from "@azure/storage-blob";
import { digestOf } from "../src/base/digest.ts";

const HELP = `node tools/upload.ts --connection-string-env NAME --container models DIR

Uploads every file under DIR; a file's path under DIR becomes the blob's path. Creates the container where it is missing.
A blob that is there with the same bytes is left alone. One with other bytes is an error: digests are written into
ModelReleases, so bytes under a path should never change.

  --connection-string-env NAME   environment variable that holds the connection string of the storage account
  --container NAME               container to upload to
  --overwrite                    replace blobs whose bytes differ
  --help                         this text
`;

export type Upload = {
  readonly connectionString: string;
  readonly container: string;
  /** Every file below it is uploaded. */
  readonly folder: string;
  /** Replace blobs whose bytes differ; without it that is an error. */
  readonly overwrite?: boolean;
};

export type Uploaded = {
  readonly path: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly outcome: "uploaded" | "unchanged" | "replaced";
};

/**
 * Uploads a folder, file by file and in the order of paths. The metadata of each blob gets `sha256`, 64 hexadecimal
 * digits: the service itself knows an MD5 at best. Rejects at the first file that cannot be uploaded.
 */
export async function uploadFolder(
  { connectionString, container, folder, overwrite = false }: Upload,
  signal: AbortSignal = AbortSignal.timeout(300_000),
): Promise<readonly Uploaded[]> {
  const client = BlobServiceClient.fromConnectionString(connectionString).getContainerClient(container);
  await client.createIfNotExists({ abortSignal: signal });
  const uploaded: Uploaded[] = [];
  for (const path of await filesBelow(folder))
    uploaded.push(await uploadFile(client, { path, file: join(folder, path), overwrite }, signal));
  return uploaded;
}

/** Paths relative to `folder`, with forward slashes, sorted. */
async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .sort();
}

async function uploadFile(
  client: ContainerClient,
  what: { readonly path: string; readonly file: string; readonly overwrite: boolean },
  signal: AbortSignal,
): Promise<Uploaded> {
  const bytes = await readFile(what.file);
  const digest = digestOf(bytes);
  const blob = client.getBlockBlobClient(what.path);
  const facts = { path: what.path, digest, sizeBytes: bytes.length };
  const options = {
    abortSignal: signal,
    metadata: { sha256: digest.slice("sha256:".length) },
    blobHTTPHeaders: { blobContentType: "application/octet-stream" },
  };
  try {
    await blob.upload(bytes, bytes.length, { ...options, conditions: { ifNoneMatch: "*" } });
    return { ...facts, outcome: "uploaded" };
  } catch (thrown) {
    if (!(thrown instanceof RestError) || thrown.statusCode !== 409) throw thrown;
  }
  if (await holds(blob, bytes, signal)) return { ...facts, outcome: "unchanged" };
  if (!what.overwrite)
    throw new Error(`${what.path} is there with other bytes; give it a new path, or --overwrite`);
  await blob.upload(bytes, bytes.length, options);
  return { ...facts, outcome: "replaced" };
}

/** Compares bytes, not metadata: another tool may have put the blob there. */
async function holds(blob: BlockBlobClient, bytes: Buffer, signal: AbortSignal): Promise<boolean> {
  const { contentLength = 0 } = await blob.getProperties({ abortSignal: signal });
  if (contentLength !== bytes.length) return false;
  return (
    contentLength === 0 || bytes.equals(await blob.downloadToBuffer(0, undefined, { abortSignal: signal }))
  );
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      "connection-string-env": { type: "string" },
      container: { type: "string" },
      overwrite: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) return void process.stdout.write(HELP);
  const [folder, ...others] = positionals;
  const { "connection-string-env": name, container, overwrite = false } = values;
  if (name === undefined || container === undefined || folder === undefined || others.length > 0)
    throw new Error(`expected --connection-string-env, --container and one folder\n\n${HELP}`);
  const connectionString = process.env[name];
  if (connectionString === undefined || connectionString === "")
    throw new Error(`the environment variable ${name} is empty`);
  for (const blob of await uploadFolder({ connectionString, container, folder, overwrite }))
    process.stdout.write(`${blob.outcome.padEnd(9)} ${blob.digest}  ${container}/${blob.path}\n`);
}

if (import.meta.main)
  await main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
