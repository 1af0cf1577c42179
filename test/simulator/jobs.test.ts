import iothub from "azure-iothub";
import { afterEach, expect, test } from "vitest";
import { createSimulator, type Simulator, type SimulatorOptions } from "../../simulator/simulator.ts";
import { controlCall } from "../../simulator/testing/control-client.ts";
import { deviceClient } from "../../simulator/testing/device-client.ts";
import {
  connectRegistry,
  problemOf,
  type Registry,
  rawCall,
  redirect,
} from "../../simulator/testing/service-client.ts";

// The real client's jobs, against the simulator and its clock.

const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function startHub(options: Partial<SimulatorOptions> & { readonly clock?: "real" } = {}) {
  const simulator = createSimulator({ clock: "virtual", tier: "S1", autoStart: false, ...options });
  running.push(simulator);
  const endpoint = await simulator.start();
  const registry = connectRegistry(endpoint);
  const jobs = redirect(iothub.JobClient.fromConnectionString(endpoint.connectionString), endpoint);
  return { simulator, endpoint, registry, jobs, hub: simulator.hub };
}

type JobClient = ReturnType<typeof iothub.JobClient.fromConnectionString>;
type JobStatus = {
  readonly status: string;
  readonly failureReason?: string;
  readonly startTime: string;
  readonly endTime?: string;
  readonly deviceJobStatistics: Readonly<Record<string, number>>;
};

async function statusOfJob(jobs: JobClient, jobId: string): Promise<JobStatus> {
  return (await jobs.getJob(jobId)).jobStatus as JobStatus;
}

async function addDevices(registry: Registry, count: number): Promise<void> {
  const devices = Array.from({ length: count }, (_, index) => ({
    deviceId: `cam-${String(index).padStart(2, "0")}`,
  }));
  await registry.addDevices(devices);
}

type Row = {
  readonly deviceId: string;
  readonly moduleId?: string;
  readonly status: string;
  readonly outcome: { readonly deviceMethodResponse?: unknown };
  readonly error?: { readonly code: string };
};

async function resultsOf(registry: Registry, where: string): Promise<readonly Row[]> {
  const page = await registry.createQuery(`SELECT * FROM devices.jobs WHERE ${where}`, 100).next("");
  return page.result as Row[];
}

const PATCH = { etag: "*", tags: { site: "a" }, properties: { desired: { interval: 5 } } } as never;
const soon = (simulator: Simulator, seconds: number) => new Date(simulator.clock.now() + seconds * 1000);

test("a twin job waits for its time, reaches ten devices a second, and counts them", async () => {
  const { simulator, registry, jobs } = await startHub();
  await addDevices(registry, 25);
  await registry.updateTwin("cam-03", { tags: { keep: true } } as never, "*");
  const made = (
    await jobs.scheduleTwinUpdate("tags", "deviceId != 'cam-24'", PATCH, soon(simulator, 60), 3600)
  ).jobStatus as JobStatus;
  expect(made.status).toBe("scheduled");
  await simulator.advance(59_000);
  expect((await statusOfJob(jobs, "tags")).deviceJobStatistics).toMatchObject({ deviceCount: 0 });

  await simulator.advance(1000 + 950);
  const half = await statusOfJob(jobs, "tags");
  expect(half.status).toBe("running");
  expect(half.deviceJobStatistics).toEqual({
    deviceCount: 24,
    failedCount: 0,
    succeededCount: 10,
    runningCount: 0,
    pendingCount: 14,
  });
  await simulator.advance(2000);
  const done = await statusOfJob(jobs, "tags");
  expect(done.status).toBe("completed");
  expect(Date.parse(done.endTime!) - Date.parse(done.startTime)).toBe(2300);
  const twin = (await registry.getTwin("cam-03")).responseBody;
  expect(twin.tags).toEqual({ keep: true, site: "a" });
  expect(twin.properties.desired["interval"]).toBe(5);
  expect((await registry.getTwin("cam-24")).responseBody.tags).toEqual({});
});

test("without throttling every device is reached at once", async () => {
  const { simulator, registry, jobs } = await startHub({ throttling: false });
  for (let bulk = 0; bulk < 3; bulk++)
    await registry.addDevices(
      Array.from({ length: 100 }, (_, index) => ({ deviceId: `d-${bulk}-${index}` })),
    );
  await jobs.scheduleTwinUpdate("all", "*", PATCH, undefined as never, 60);
  await simulator.advance(0);
  expect(await statusOfJob(jobs, "all")).toMatchObject({
    status: "completed",
    deviceJobStatistics: { deviceCount: 300, succeededCount: 300 },
  });
});

test("an etag is honoured device by device: who has another fails, and the job goes on", async () => {
  const { simulator, registry, jobs } = await startHub();
  await addDevices(registry, 2);
  await registry.updateTwin("cam-00", { tags: { old: true } } as never, "*");
  const { etag } = (await registry.getTwin("cam-01")).responseBody;
  await jobs.scheduleTwinUpdate("guarded", "*", { ...(PATCH as object), etag } as never, new Date(0), 60);
  await simulator.advance(1000);
  expect(await statusOfJob(jobs, "guarded")).toMatchObject({
    status: "completed",
    deviceJobStatistics: { deviceCount: 2, failedCount: 1, succeededCount: 1 },
  });
  expect(await resultsOf(registry, "jobId = 'guarded' AND status = 'failed'")).toMatchObject([
    { deviceId: "cam-00", error: { code: "PreconditionFailed" } },
  ]);
  expect((await registry.getTwin("cam-00")).responseBody.tags).toEqual({ old: true });
});

test("a condition that begins with FROM reaches the twins of modules", async () => {
  const { simulator, registry, jobs } = await startHub();
  await addDevices(registry, 2);
  for (const deviceId of ["cam-00", "cam-01"])
    for (const moduleId of ["inference", "other"]) await registry.addModule({ deviceId, moduleId } as never);
  const condition = "FROM devices.modules WHERE ModuleId = 'inference' AND devices.deviceId IN ['cam-01']";
  await jobs.scheduleTwinUpdate("modules", condition, PATCH, new Date(0), 60);
  await simulator.advance(1000);
  expect(await resultsOf(registry, "devices.jobs.jobId = 'modules'")).toMatchObject([
    { deviceId: "cam-01", moduleId: "inference", status: "completed" },
  ]);
  const twin = (await registry.getModuleTwin("cam-01", "inference")).responseBody;
  expect(twin.properties.desired["interval"]).toBe(5);
});

test("a method job keeps each device's answer, and waits for those that are away until its time is up", async () => {
  const { simulator, registry, jobs, hub } = await startHub();
  await addDevices(registry, 4);
  const answer = (device: string, status: number) =>
    hub.methods.attach(device, ({ requestId, name, body }) =>
      hub.methods.respond(device, requestId, status, JSON.stringify({ name, body: JSON.parse(body) })),
    );
  answer("cam-00", 200);
  answer("cam-01", 500);
  const method = { methodName: "reboot", payload: { hard: true }, responseTimeoutInSeconds: 10 };
  await jobs.scheduleDeviceMethod(
    "reboot",
    "deviceId IN ['cam-00', 'cam-01', 'cam-02', 'cam-03']",
    method,
    new Date(0),
    120,
  );
  await simulator.advance(60_000);
  expect((await statusOfJob(jobs, "reboot")).deviceJobStatistics).toMatchObject({
    succeededCount: 2,
    runningCount: 2,
  });
  answer("cam-02", 200);
  await simulator.advance(59_999);
  expect((await statusOfJob(jobs, "reboot")).status).toBe("running");
  await simulator.advance(1);
  expect(await statusOfJob(jobs, "reboot")).toMatchObject({
    status: "failed",
    failureReason: expect.stringContaining("120 seconds"),
    deviceJobStatistics: { succeededCount: 3, failedCount: 1 },
  });
  const payload = { name: "reboot", body: { hard: true } };
  expect(await resultsOf(registry, "jobId = 'reboot'")).toMatchObject([
    { status: "completed", outcome: { deviceMethodResponse: { status: 200, payload } } },
    { status: "completed", outcome: { deviceMethodResponse: { status: 500, payload } } },
    { status: "completed", outcome: { deviceMethodResponse: { status: 200, payload } } },
    { deviceId: "cam-03", status: "failed", error: { code: "JobRunPreconditionFailed" } },
  ]);
});

test("a real device answers the method of a job", async () => {
  const { registry, jobs, endpoint } = await startHub({ clock: "real" });
  const created = (await registry.create({ deviceId: "cam-1" })).responseBody;
  const key = created.authentication?.symmetricKey?.primaryKey ?? "";
  const client = await deviceClient(endpoint, { deviceId: "cam-1" }, key);
  const called = new Promise((resolve) => {
    client.onDeviceMethod("ping", (request, response) => {
      response.send(200, { pong: request.payload }, () => resolve(undefined));
    });
  });
  await client.open();
  await jobs.scheduleDeviceMethod("ping", "*", { methodName: "ping", payload: 7 }, new Date(), 60);
  await called;
  await expect.poll(async () => (await statusOfJob(jobs, "ping")).status).toBe("completed");
  expect(await resultsOf(registry, "jobId = 'ping'")).toMatchObject([
    { outcome: { deviceMethodResponse: { status: 200, payload: { pong: 7 } } } },
  ]);
  await client.close();
});

test("a cancelled job does nothing more, whether it waits for its time, its turn or its devices", async () => {
  const { simulator, registry, jobs, hub } = await startHub();
  await addDevices(registry, 30);
  await jobs.scheduleTwinUpdate("later", "*", PATCH, soon(simulator, 10), 60);
  await jobs.cancelJob("later");
  await simulator.advance(20_000);
  expect(await statusOfJob(jobs, "later")).toMatchObject({
    status: "cancelled",
    deviceJobStatistics: { deviceCount: 0 },
  });

  await jobs.scheduleTwinUpdate("half", "*", PATCH, new Date(0), 60);
  await simulator.advance(950);
  expect((await jobs.cancelJob("half")).jobStatus).toMatchObject({ status: "cancelled" });
  await simulator.advance(20_000);
  const tagged = [...hub.registry.devices()].filter(
    ({ deviceId }) => hub.twins.get(deviceId)?.tags["site"] === "a",
  );
  expect(tagged.length).toBe(10);

  await jobs.scheduleDeviceMethod(
    "away",
    "deviceId = 'cam-00'",
    { methodName: "ping", payload: 1 },
    new Date(0),
    60,
  );
  await simulator.advance(1000);
  await jobs.cancelJob("away");
  let heard = 0;
  hub.methods.attach("cam-00", () => {
    heard += 1;
  });
  await simulator.advance(20_000);
  expect(heard).toBe(0);
  expect(await resultsOf(registry, "jobId = 'away'")).toMatchObject([{ status: "cancelled" }]);
  expect((await jobs.cancelJob("away")).jobStatus).toMatchObject({ status: "cancelled" });
  expect((await problemOf(jobs.cancelJob("never"))).response?.headers["iothub-errorcode"]).toBe(
    "JobNotFound",
  );
});

test("one job runs at a time on S1: a second gets 429004, and one that comes due waits its turn", async () => {
  const { simulator, registry, jobs } = await startHub();
  await addDevices(registry, 30);
  await jobs.scheduleTwinUpdate("due", "*", PATCH, soon(simulator, 1), 60);
  await jobs.scheduleTwinUpdate("first", "*", PATCH, new Date(0), 60);
  const problem = await problemOf(jobs.scheduleTwinUpdate("second", "*", PATCH, new Date(0), 60));
  expect(problem.response?.statusCode).toBe(429);
  expect(problem.response?.headers["iothub-errorcode"]).toBe("ThrottlingMaxActiveJobCountExceeded");
  await simulator.advance(2000);
  expect((await statusOfJob(jobs, "due")).status).toBe("queued");
  await simulator.advance(4000);
  expect((await statusOfJob(jobs, "first")).status).toBe("completed");
  expect((await statusOfJob(jobs, "due")).status).toBe("completed");
  await jobs.scheduleTwinUpdate("second", "*", PATCH, new Date(0), 60);
});

test("five jobs run side by side on S2, and take turns", async () => {
  const { simulator, registry, jobs } = await startHub({ tier: "S2" });
  await addDevices(registry, 20);
  for (const jobId of ["a", "b", "c", "d", "e"])
    await jobs.scheduleTwinUpdate(jobId, "*", PATCH, new Date(0), 60);
  const problem = await problemOf(jobs.scheduleTwinUpdate("f", "*", PATCH, new Date(0), 60));
  expect(problem.response?.statusCode).toBe(429);
  await simulator.advance(1950);
  for (const jobId of ["a", "b", "c", "d", "e"])
    expect((await statusOfJob(jobs, jobId)).deviceJobStatistics["succeededCount"]).toBe(4);
});

test("jobs are listed by type and status, page by page", async () => {
  const { simulator, registry, jobs } = await startHub({ tier: "S3" });
  await addDevices(registry, 1);
  for (const jobId of ["t1", "t2", "t3"]) await jobs.scheduleTwinUpdate(jobId, "*", PATCH, new Date(0), 60);
  await jobs.scheduleTwinUpdate("t4", "*", PATCH, soon(simulator, 3600), 60);
  await jobs.scheduleDeviceMethod("m1", "*", { methodName: "ping", payload: 1 }, soon(simulator, 3600), 60);
  await simulator.advance(1000);
  const list = async (type: string | undefined, status: string | undefined) => {
    const query = jobs.createQuery(type as never, status as never, 2);
    const pages: string[][] = [];
    do {
      const page = await query.next((query as unknown as { continuationToken: string }).continuationToken);
      pages.push((page.result as { jobId: string }[]).map((job) => job.jobId));
      expect(
        (page.message as { headers: Record<string, string> } | undefined)?.headers["x-ms-item-type"],
      ).toBe("jobResponse");
    } while (query.hasMoreResults);
    return pages;
  };
  expect(await list(undefined, undefined)).toEqual([["t1", "t2"], ["t3", "t4"], ["m1"]]);
  expect(await list("scheduleUpdateTwin", "completed")).toEqual([["t1", "t2"], ["t3"]]);
  expect(await list("ScheduleDeviceMethod", undefined)).toEqual([["m1"]]);
  expect(await list(undefined, "failed")).toEqual([[]]);
  expect((await problemOf(list("export", undefined))).response?.statusCode).toBe(400);
});

test("what a job is made of is checked before anything happens", async () => {
  const { jobs } = await startHub();
  const good = { type: "scheduleUpdateTwin", queryCondition: "deviceId = 'cam-1'", updateTwin: PATCH };
  const method = {
    type: "scheduleDeviceMethod",
    updateTwin: null,
    cloudToDeviceMethod: { methodName: "ping" },
  };
  const cases: readonly (readonly [number, string, object])[] = [
    [400, "GenericBadRequest", { type: "scheduleTwinUpdate" }],
    [400, "ArgumentInvalid", { updateTwin: { tags: { a: 1 } } }],
    [400, "ArgumentInvalid", { updateTwin: { etag: "*", desired: { a: 1 } } }],
    [400, "ArgumentNull", { updateTwin: null }],
    [400, "ArgumentNull", { ...method, cloudToDeviceMethod: null }],
    [400, "ArgumentInvalid", { ...method, cloudToDeviceMethod: { methodName: "a b" } }],
    [
      400,
      "ArgumentInvalid",
      { ...method, cloudToDeviceMethod: { methodName: "ping", responseTimeoutInSeconds: 4 } },
    ],
    [400, "ArgumentNull", { queryCondition: null }],
    [400, "ArgumentInvalid", { queryCondition: "site = 'a'" }],
    [400, "ArgumentInvalid", { queryCondition: "FROM devices.jobs WHERE status = 'failed'" }],
    [400, "ArgumentInvalid", { queryCondition: "FROM devices GROUP BY tags.site" }],
    [412, "PreconditionFailed", { queryCondition: `deviceId IN ['${"x".repeat(8200)}']` }],
    [400, "ArgumentInvalid", { startTime: "tomorrow" }],
    [400, "ArgumentInvalid", { startTime: "2026-02-30T00:00:00Z" }],
    [400, "ArgumentInvalid", { maxExecutionTimeInSeconds: 0 }],
    [400, "ArgumentInvalid", { jobId: "another" }],
  ];
  for (const [status, code, change] of cases) {
    const problem = await problemOf(rawCall(jobs, "PUT", "/jobs/v2/bad", { ...good, ...change }));
    expect(problem.response, JSON.stringify(change).slice(0, 80)).toMatchObject({
      statusCode: status,
      headers: { "iothub-errorcode": code },
    });
  }
  // The hub answers like this for a job that it does not know, and not with 404.
  expect((await jobs.getJob("bad")).jobStatus).toEqual({ jobId: "bad", type: "unknown", status: "unknown" });
  await rawCall(jobs, "PUT", "/jobs/v2/good", good);
  expect(await problemOf(rawCall(jobs, "PUT", "/jobs/v2/good", good))).toMatchObject({
    name: "DeviceAlreadyExistsError",
  });
});

test("a start without its zone is UTC, wherever the simulator runs", async () => {
  const { jobs } = await startHub();
  const zone = process.env["TZ"];
  process.env["TZ"] = "Asia/Kolkata";
  try {
    for (const [at, startTime] of [
      "2035-01-02T03:04:05",
      "2035-01-02T03:04:05Z",
      "2035-01-02T04:04:05+01:00",
    ].entries()) {
      const job = { type: "scheduleUpdateTwin", queryCondition: "*", updateTwin: PATCH, startTime };
      await rawCall(jobs, "PUT", `/jobs/v2/later-${at}`, job);
      expect((await statusOfJob(jobs, `later-${at}`)).startTime).toBe("2035-01-02T03:04:05.000Z");
    }
  } finally {
    if (zone === undefined) delete process.env["TZ"];
    else process.env["TZ"] = zone;
  }
});

test("what a job did is held for thirty days", async () => {
  const { simulator, registry, jobs } = await startHub({ evaluationInterval: 24 * 3_600_000 });
  await addDevices(registry, 1);
  await jobs.scheduleTwinUpdate("old", "*", PATCH, new Date(0), 60);
  await simulator.advance(1000);
  const day = 24 * 3_600_000;
  await simulator.advance(30 * day - 2000);
  expect((await resultsOf(registry, "deviceId = 'cam-00' AND createdTimeUtc > '2016-09-01'")).length).toBe(1);
  await simulator.advance(2000);
  expect((await statusOfJob(jobs, "old")).status).toBe("unknown");
  expect(await resultsOf(registry, "deviceId = 'cam-00'")).toEqual([]);
});

test("devices.jobs takes SELECT * only, and says deviceJob", async () => {
  const { registry, simulator, jobs } = await startHub();
  await addDevices(registry, 12);
  await jobs.scheduleTwinUpdate("all", "*", PATCH, new Date(0), 60);
  await simulator.advance(500);
  const query = registry.createQuery(
    "SELECT * FROM devices.jobs WHERE status = 'pending' OR endTimeUtc > '2000'",
    5,
  );
  const sizes: number[] = [];
  do {
    const page = await query.next((query as unknown as { continuationToken: string }).continuationToken);
    sizes.push((page.result as unknown[]).length);
    expect((page.message as { headers: Record<string, string> }).headers["x-ms-item-type"]).toBe("deviceJob");
  } while (query.hasMoreResults);
  expect(sizes).toEqual([5, 5, 2]);
  for (const text of [
    "SELECT COUNT() AS n FROM devices.jobs",
    "SELECT deviceId FROM devices.jobs",
    "SELECT * FROM devices.jobs WHERE tags.site = 'a'",
    "SELECT * FROM devices WHERE jobId = 'all'",
  ])
    expect((await problemOf(registry.createQuery(text).next(""))).response?.statusCode, text).toBe(400);
});

test("jobs have counters, a budget and faults of their own, and their work counts for the day's messages", async () => {
  const { simulator, registry, jobs, hub, endpoint } = await startHub();
  await addDevices(registry, 3);
  await jobs.scheduleTwinUpdate("all", "*", PATCH, new Date(0), 60);
  await simulator.advance(1000);
  await statusOfJob(jobs, "all");
  const { classes, operations } = hub.counters.report();
  expect(classes["job"]?.total).toBe(2);
  expect(operations["job.create"]?.results).toEqual({ "200": 1 });
  expect(hub.quota.report().classes.jobDevice).toBe(3);

  const fault = controlCall(endpoint, "POST", "faults", {
    kind: "status",
    status: 503,
    operations: ["job.get"],
    until: 1,
  });
  expect((await fault).status).toBe(200);
  expect((await problemOf(jobs.getJob("all"))).response?.statusCode).toBe(503);

  for (let index = 0; index < 99; index++) await statusOfJob(jobs, "all");
  expect((await problemOf(jobs.getJob("all"))).response?.statusCode).toBe(429);
});

test("a job on a hub whose messages of the day are used up reaches no device", async () => {
  const { simulator, registry, jobs } = await startHub({ dailyQuota: 2 });
  await addDevices(registry, 4);
  await jobs.scheduleTwinUpdate("all", "*", PATCH, new Date(0), 60);
  await simulator.advance(1000);
  expect((await statusOfJob(jobs, "all")).deviceJobStatistics).toMatchObject({
    succeededCount: 2,
    failedCount: 2,
  });
});
