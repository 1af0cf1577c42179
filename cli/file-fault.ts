import { errorCodeOf } from "../src/base/guards.ts";
import { own } from "../src/base/lookup.ts";

/** What is wrong with a file, in words. */
export function fileFault(thrown: unknown): string {
  const code = errorCodeOf(thrown) ?? "";
  const words: Readonly<Record<string, string>> = {
    ENOENT: "there is no such file",
    ENOTDIR: "there is no such file",
    EACCES: "permission denied for this user",
    EPERM: "permission denied for this user",
    EISDIR: "is a directory",
    EEXIST: "it exists already",
    ENOSPC: "the disk is full",
    EROFS: "the file system is read-only",
    ENAMETOOLONG: "the name is too long",
    ELOOP: "its symbolic links form a loop",
  };
  return own(words, code) ?? (code === "" ? "it cannot be used" : `it cannot be used (${code})`);
}
