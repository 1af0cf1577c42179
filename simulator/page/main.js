import { call } from "./api.js";
import { createChart } from "./chart.js";
import { createDeviceDialog } from "./device.js";
import { byId, element } from "./dom.js";
import { showEvents } from "./events.js";
import { createFaults } from "./faults.js";
import { createDeviceTable, showFleet } from "./fleet.js";
import { showBehaviours, showBudgets, showConfigurations, showJobs } from "./hub.js";

// Asks for the overview every two seconds, while the page is visible, and shows it.

const PAUSE = 2000;
const ADVANCES = [
  ["1 min", 60_000],
  ["5 min", 300_000],
  ["1 h", 3_600_000],
];

const chart = createChart({ chart: byId("chart"), legend: byId("legend"), shares: byId("shares") });
const dialog = createDeviceDialog({ complain });
let table = null;
let faults = null;
let round = Promise.resolve();
let timer;

function complain(problem) {
  const notice = byId("notice");
  notice.textContent = problem.message;
  notice.hidden = false;
}

function setLink(state, text) {
  const link = byId("link");
  link.dataset.state = state;
  if (link.textContent !== text) link.textContent = text;
}

async function look() {
  const source = byId("source").value;
  const overview = await call("GET", `/sim/overview${source === "" ? "" : `?source=${source}`}`);
  if (table === null) prepare(overview);
  const { now, hub, devices, operations, budgets, quota, configurations, behaviours, events } = overview;
  byId("hub").textContent =
    `${hub.hostName} · ${hub.units} × ${hub.tier}${hub.throttling ? "" : " · no throttling"}`;
  const time = byId("now");
  time.textContent = `${now.slice(0, 10)} ${now.slice(11, 19)} UTC`;
  time.dateTime = now;
  showFleet(devices, table.choose);
  chart.add(operations, performance.now());
  showBudgets(budgets, quota, hub.throttling);
  showConfigurations(configurations);
  faults.show(overview.faults, now);
  showBehaviours(behaviours);
  showJobs(overview.jobs);
  showEvents(byId("events"), events, dialog.open);
  await Promise.all([table.refresh(), dialog.refresh()]);
}

/** What is as it is for as long as the simulator runs. */
function prepare({ devices, operations, virtualClock }) {
  table = createDeviceTable(Object.keys(devices.states), { open: dialog.open, complain });
  faults = createFaults({ operations: Object.keys(operations.classes), changed, complain });
  byId("clock-name").textContent = virtualClock ? "Virtual clock" : "Clock";
  if (virtualClock)
    byId("advance").append(
      ...ADVANCES.map(([name, milliseconds]) =>
        element(
          "button",
          { type: "button", "aria-label": `Advance by ${name}`, onclick: () => advance(milliseconds) },
          `+${name}`,
        ),
      ),
    );
  dialog.follow();
}

function advance(advanceMilliseconds) {
  const buttons = [...byId("advance").children];
  for (const button of buttons) button.disabled = true;
  call("POST", "/sim/clock", { advanceMilliseconds })
    .then(changed, complain)
    .finally(() => {
      for (const button of buttons) button.disabled = false;
    });
}

/** After an action of the user: earlier errors are cleared, and the present state is fetched at once. */
function changed() {
  byId("notice").hidden = true;
  return start();
}

/** One look at a time; the next one comes a while after the last has ended. */
function start() {
  clearTimeout(timer);
  round = round.then(look).then(
    () => setLink("live", "live"),
    (problem) => setLink("lost", `no answer: ${problem.message}`),
  );
  round.then(() => {
    clearTimeout(timer);
    if (document.hidden) setLink("waiting", "paused");
    else timer = setTimeout(start, PAUSE);
  });
  return round;
}

byId("evaluate").addEventListener("click", () => {
  call("POST", "/sim/evaluate").then(changed, complain);
});
byId("source").addEventListener("change", start);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) start();
});
start();
