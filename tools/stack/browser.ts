import { existsSync } from "node:fs";

/** Where distributions put Chromium, and Google its own. */
const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const INSTALLERS = ["/usr/bin/apt-get"];

/** Path of a browser on this machine; `null`: there is none. */
export function findBrowser(): string | null {
  return PLACES.find((path) => existsSync(path)) ?? null;
}

/** As `findBrowser`, for a test that is nothing without one. */
export function requireBrowser(): string {
  const found = findBrowser();
  if (found !== null) return found;
  throw new Error(
    `a browser is needed: install Chromium (Debian: apt-get install -y chromium) so that one of ${PLACES.join(", ")} is there`,
  );
}

/** Commands that install a browser where one is missing and this process may do so; none where that is not so. */
export function browserInstallation(): readonly (readonly string[])[] {
  const installer = INSTALLERS.find((path) => existsSync(path));
  if (findBrowser() !== null || installer === undefined || process.getuid?.() !== 0) return [];
  return [
    [installer, "-qq", "update"],
    [
      "env",
      "DEBIAN_FRONTEND=noninteractive",
      installer,
      "-qq",
      "-y",
      "install",
      "--no-install-recommends",
      "chromium",
    ],
  ];
}
