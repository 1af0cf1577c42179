import { stat } from "node:fs/promises";
import { createServer } from "node:net";
import { platform } from "node:os";
import { err, ok, type Result } from "../../base/result.ts";

/**
 * Takes a directory for this process alone: by a name among the abstract Unix sockets of Linux (unix(7)), which the
 * kernel gives to one process of a machine or pod, and takes back however that process ends. Elsewhere nothing is taken.
 * @returns what gives it back; an error is a sentence.
 */
export async function lockDirectory(directory: string): Promise<Result<() => Promise<void>, string>> {
  if (platform() !== "linux") return ok(() => Promise.resolve());
  const { dev, ino } = await stat(directory);
  const server = createServer((socket) => socket.destroy());
  const failure = await new Promise<string | null>((resolve) => {
    server.once("listening", () => resolve(null));
    server.once("error", (cause: NodeJS.ErrnoException) => resolve(cause.code ?? "unknown error"));
    server.listen(`\0edgefleet-verifier/${dev}/${ino}`);
  });
  if (failure === "EADDRINUSE") return err(`another verifier uses ${directory}`);
  if (failure !== null) return err(`cannot lock ${directory}: ${failure}`);
  return ok(() => new Promise((resolve) => void server.close(() => resolve())));
}
