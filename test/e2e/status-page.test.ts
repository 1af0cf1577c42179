import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { FaultRule } from "../../simulator/hub/faults/faults.ts";
import { createSimulator, type Simulator, type SimulatorSetup } from "../../simulator/simulator.ts";
import { connectRegistry, statusOf } from "../../simulator/testing/service-client.ts";
import { requireBrowser } from "../../tools/stack/browser.ts";

// The status page in a real browser, against a real simulator.

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const MARKUP = `<img src=x onerror="window.struck = 1"><script>window.struck = 2</script>`;
const ANY_REQUEST = {
  operations: ["*"],
  devices: "*",
  percent: 100,
  when: "before",
  expiresAt: null,
  remaining: null,
} as const;
const LATENCY: FaultRule = { ...ANY_REQUEST, id: "slow", kind: "latency", milliseconds: { min: 1, max: 2 } };

let browser: Browser;
beforeAll(async () => {
  browser = await chromium.launch({ executablePath: requireBrowser(), args: FLAGS });
}, 60_000);
afterAll(() => browser?.close());

const endings: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});

/** A simulator with `devices`, and its page; whatever the page complains of, or asks of others, fails the test. */
async function openPage(
  devices: number,
  setup: SimulatorSetup = {},
  options: BrowserContextOptions & {
    readonly before?: (simulator: Simulator) => void;
    readonly path?: string;
    /** What the browser is meant to complain of. */
    readonly complaint?: RegExp;
  } = {},
) {
  const simulator = createSimulator({ tier: "S3", download: "skip", ...setup });
  endings.push(() => simulator.stop());
  for (let index = 0; index < devices; index++) {
    const id = `cam-${String(index).padStart(3, "0")}`;
    simulator.hub.registry.putDevice(id, { capabilities: { iotEdge: index === 0 } }, null);
    const tags = { edgefleet: { site: index % 2 === 0 ? "plant-a" : "harbour", class: "jetson" } };
    simulator.hub.twins.patch(id, { tags, desired: null }, null);
  }
  const { before, path = "/", complaint, ...context } = options;
  before?.(simulator);
  const endpoint = await simulator.start();
  const origin = `https://127.0.0.1:${endpoint.port}`;
  const opened = await browser.newContext({ ignoreHTTPSErrors: true, ...context });
  const complaints: string[] = [];
  endings.push(async () => {
    await opened.close();
    expect(complaints).toEqual([]);
  });
  const page = await opened.newPage();
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type()) || complaint?.test(message.text()) === true) return;
    complaints.push(message.text());
  });
  page.on("pageerror", (problem) => complaints.push(String(problem)));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) complaints.push(`asked ${request.url()}`);
  });
  page.setDefaultTimeout(15_000);
  await page.clock.install();
  await page.goto(`${origin}${path}`);
  await page.locator("#link[data-state=live]").waitFor();
  return { page, simulator, origin, registry: connectRegistry(endpoint) };
}

/** The page looks again, as it does every two seconds. */
async function nextLook(page: Page): Promise<void> {
  const looked = page.waitForResponse((response) => response.url().includes("/sim/overview"));
  await page.clock.fastForward(2100);
  await (await looked).finished();
  await page.evaluate("new Promise((resolve) => requestAnimationFrame(resolve))");
}

test("it shows the fleet, finds a device, and opens its twin", async () => {
  const { page, simulator, origin } = await openPage(60);
  await page.locator("#device-count", { hasText: "60" }).waitFor();
  expect(await page.locator("#states").textContent()).toContain("idle");
  expect(await page.locator("#devices tr").count()).toBe(25);
  expect(await page.locator("#range").textContent()).toBe("1–25 of 60");
  await page.locator("#next").click();
  await page.locator("#range", { hasText: "26–50 of 60" }).waitFor();
  await page.locator("#words").fill("cam-017 harb");
  await page.clock.fastForward(300);
  await page.locator("#range", { hasText: "1–1 of 1" }).waitFor();
  simulator.hub.twins.patch("cam-017", { tags: { shelf: "B7" }, desired: { camera: { fps: 12 } } }, null);
  await page.locator("#devices button").press("Enter");
  const dialog = page.locator("#device");
  await dialog.locator("pre", { hasText: `"shelf": "B7"` }).waitFor();
  await dialog.locator("summary", { hasText: "Desired" }).press("Enter");
  await dialog.locator("pre", { hasText: `"fps": 12` }).waitFor();
  expect(await dialog.locator(".events li").first().textContent()).toContain("updateTwin");
  // What somebody has opened stays open while the device goes on living.
  simulator.hub.twins.patch("cam-017", { tags: null, desired: { camera: { fps: 25 } } }, null);
  await nextLook(page);
  await dialog.locator("pre", { hasText: `"fps": 25` }).waitFor();
  expect(page.url()).toContain("#device=cam-017");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await page.waitForURL(`${origin}/`);
});

test("a device can be linked to", async () => {
  const { page, origin } = await openPage(1, {}, { path: "/#device=cam-000" });
  await page.locator("#device-title", { hasText: "cam-000" }).waitFor();
  await page.locator("#device summary", { hasText: "$edgeAgent" }).waitFor();
  await page.locator("#device-close").click();
  await page.locator("#device").waitFor({ state: "hidden" });
  await page.waitForURL(`${origin}/`);
});

test("what a link or a press asks for in vain is told, and the page goes on", async () => {
  const { page, simulator } = await openPage(1, {}, { path: "/#device=gone", complaint: /404/ });
  await page.locator("#notice", { hasText: "there is no device gone" }).waitFor();
  await nextLook(page);
  expect(await page.locator("#link").textContent()).toBe("live");
  simulator.hub.faults.put({ ...LATENCY, id: "short" });
  await nextLook(page);
  simulator.hub.faults.clear();
  await page.locator("#faults button").click();
  await page.locator("#notice", { hasText: "there is no fault short" }).waitFor();
});

test("a fault that is added on the page strikes the hub's clients until it is ended there", async () => {
  const { page, simulator, registry } = await openPage(3);
  expect(await statusOf(registry.get("none"))).toBe(404);
  await page.locator("#fault-kind").selectOption({ label: "503 for 1 minute" });
  await page.locator("#fault-operations").selectOption("twinRead");
  await page.locator("#fault-devices").fill("cam-00*");
  await page.locator("#add-fault button").click();
  const fault = page.locator("#faults li", { hasText: "503 · twinRead · devices cam-00* · " });
  await fault.waitFor();
  expect(await statusOf(registry.getTwin("cam-001"))).toBe(503);
  expect((await registry.get("cam-001")).responseBody.deviceId).toBe("cam-001");
  // Whoever was about to press the button still is when the list has become another.
  await fault.locator("button").focus();
  const focused = () => page.evaluate<string>("document.activeElement.getAttribute('aria-label')");
  const button = await focused();
  simulator.hub.faults.put(LATENCY);
  await nextLook(page);
  await page.locator("#faults li", { hasText: "slow" }).waitFor();
  expect([button, await focused()]).toEqual([expect.stringMatching(/^End fault-/), button]);
  await page.keyboard.press("Enter");
  await fault.waitFor({ state: "hidden" });
  await page.locator("#faults button").click();
  await page.locator("#faults", { hasText: "None" }).waitFor();
  expect((await registry.getTwin("cam-001")).responseBody.deviceId).toBe("cam-001");
});

test("operations are drawn as they come, with what was throttled and what failed", async () => {
  const { page, simulator, registry } = await openPage(2);
  await page.locator("#legend", { hasText: "Nothing has been asked" }).waitFor();
  simulator.hub.faults.put({
    ...ANY_REQUEST,
    id: "ill",
    kind: "status",
    status: 500,
    retryAfterSeconds: null,
    operations: ["identity"],
  });
  const samples = () => page.locator("#chart svg").getAttribute("data-samples");
  const before = Number(await samples());
  for (let index = 0; index < 3; index++) await registry.getTwin("cam-000");
  expect(await statusOf(registry.get("cam-000"))).toBe(500);
  await nextLook(page);
  await page.locator("#legend li", { hasText: "twinRead" }).waitFor();
  await page.locator("#chart polygon.series-2").waitFor({ state: "attached" });
  expect(await page.locator("#shares").textContent()).toMatch(
    /^\d.*\/s · throttled 0\.0 % · refused 0\.0 % · failed 25\.0 %$/,
  );
  expect(await page.locator("#chart rect.failed").count()).toBe(1);
  await nextLook(page);
  expect(Number(await samples())).toBeGreaterThan(before + 1);
});

test("whatever devices and people write stays text, and secrets are not shown", async () => {
  const tags = { edgefleet: { site: MARKUP, class: MARKUP }, note: MARKUP };
  const model = { url: "https://store/a.onnx?sv=1&sig=c2VjcmV0&se=2", release: MARKUP };
  const { page, simulator } = await openPage(
    0,
    { autoStart: false, behaviours: [{ name: MARKUP, match: { site: MARKUP }, effects: { offline: true } }] },
    {
      before: ({ hub, links }) => {
        hub.registry.putDevice("cam-x", {}, null);
        hub.twins.patch("cam-x", { tags, desired: { model } }, null);
        const session = links.connect(
          { deviceId: "cam-x", moduleId: null },
          { desired() {}, closed() {} },
          null,
        );
        if (!session.ok) throw new Error(session.refusal.message);
        const error = { code: MARKUP, message: MARKUP };
        links.report(session.value, {
          inference: { active: { release: MARKUP }, update: { state: "Failed", error }, heartbeatAt: MARKUP },
        });
        hub.faults.put({ ...LATENCY, id: MARKUP, operations: [MARKUP], devices: MARKUP });
      },
    },
  );
  await page.locator("#devices button").click();
  await page.locator("#device pre").first().waitFor();
  for (const summary of await page.locator("#device summary").all())
    if ((await summary.evaluate((one) => one.parentElement?.hasAttribute("open"))) === false)
      await summary.click();
  for (const place of [
    "#groups",
    "#devices",
    "#faults",
    "#behaviours",
    "#device-body .facts",
    "#device-body pre",
  ])
    expect(await page.locator(place).first().textContent()).toContain("<img src=x onerror=");
  expect(await page.locator("body img:not(.brand img), body script").count()).toBe(0);
  expect(await page.evaluate("window.struck")).toBeUndefined();
  const text = (await page.locator("body").textContent()) ?? "";
  expect(text).toContain("sig=(hidden)");
  expect(text).not.toContain("c2VjcmV0");
  const { symmetricKey } = simulator.hub.registry.get("cam-x", null)?.authentication ?? {};
  expect(symmetricKey?.primaryKey?.length).toBeGreaterThan(20);
  for (const key of [symmetricKey?.primaryKey, symmetricKey?.secondaryKey]) expect(text).not.toContain(key);
});

test("a virtual clock is moved by a button, a real one has none", async () => {
  const { page, simulator } = await openPage(1, { clock: "virtual" });
  const before = simulator.clock.now();
  await page.locator("#advance button", { hasText: "+5 min" }).click();
  const time = new Date(before + 300_000).toISOString();
  await page.locator("#now", { hasText: `${time.slice(0, 10)} ${time.slice(11, 19)} UTC` }).waitFor();
  expect(simulator.clock.now()).toBe(before + 300_000);
  const { page: other } = await openPage(1);
  expect(await other.locator("#advance button").count()).toBe(0);
});

test("it can be read on a phone, by day and by night", async () => {
  const colours: string[] = [];
  for (const colorScheme of ["light", "dark"] as const) {
    const { page } = await openPage(3, {}, { viewport: { width: 360, height: 740 }, colorScheme });
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(360);
    colours.push(await page.evaluate<string>("getComputedStyle(document.body).backgroundColor"));
    await page.keyboard.press("Tab");
    expect(await page.evaluate("document.activeElement.textContent")).toBe("To the devices");
  }
  expect(new Set(colours).size).toBe(2);
});

test("it says when the simulator is gone", async () => {
  const { page, simulator } = await openPage(1);
  await simulator.stop();
  page.removeAllListeners("console");
  await page.clock.fastForward(2100);
  await page.locator("#link[data-state=lost]").waitFor();
});
