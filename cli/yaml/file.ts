import { isUtf8 } from "node:buffer";
import { readFile, stat } from "node:fs/promises";
import { err, ok, type Result } from "../../src/base/result.ts";
import { fileFault } from "../file-fault.ts";
import { documentsIn, type YamlDocuments } from "./documents.ts";

const LARGEST = 4 * 2 ** 20;

/** The documents of a YAML or JSON file; or every mistake in it, with its line. */
export async function readYamlFile(path: string): Promise<Result<YamlDocuments, readonly string[]>> {
  const text = await readText(path);
  if (!text.ok) return err([text.error]);
  const read = documentsIn(path, text.value);
  return read.ok && read.value.documents.length === 0 ? err([`${path}: there is nothing in it`]) : read;
}

async function readText(path: string): Promise<Result<string, string>> {
  try {
    const about = await stat(path);
    if (!about.isFile()) return err(`${path}: is ${about.isDirectory() ? "a directory" : "no file"}`);
    if (about.size > LARGEST) return err(`${path}: has ${about.size} bytes, more than a manifest can have`);
    const bytes = await readFile(path);
    return isUtf8(bytes) ? ok(bytes.toString("utf8")) : err(`${path}: is not text in UTF-8`);
  } catch (thrown) {
    return err(`${path}: ${fileFault(thrown)}`);
  }
}
