// Run by `helm test`: every replica is ready, and the one that leads reaches the hub.
import { resolve4, resolve6 } from "node:dns/promises";

const [service] = process.argv.slice(1);
const deadline = Date.now() + 120_000;

for (;;) {
  const problems = await problemsOf(service);
  if (problems.length === 0) break;
  if (Date.now() > deadline) {
    for (const problem of problems) console.error(problem);
    process.exit(1);
  }
  await new Promise((resolve) => setTimeout(resolve, 3000));
}
console.log("all replicas are ready, and the leader reaches the hub");

async function problemsOf(name) {
  const found = await Promise.allSettled([resolve4(name), resolve6(name)]);
  const hosts = found.flatMap((answer, index) =>
    answer.status === "rejected" ? [] : answer.value.map((address) => (index === 0 ? address : `[${address}]`)),
  );
  if (hosts.length === 0) return [`${name} has no address: no pod of the operator runs`];
  const replicas = await Promise.all(hosts.map(look));
  const problems = replicas.flatMap(({ problem }) => (problem === null ? [] : [problem]));
  const leaders = replicas.filter(({ leads }) => leads);
  if (leaders.length === 0) problems.push("no replica leads: see the Lease and the operator's log");
  if (leaders.some(({ reachesHub }) => !reachesHub))
    problems.push("the leader does not reach the hub: see the operator's log, hub.* and the network policy");
  return problems;
}

async function look(host) {
  try {
    const ready = await fetch(`http://${host}:8080/readyz`);
    const metrics = await (await fetch(`http://${host}:8080/metrics`)).text();
    return {
      problem: ready.ok ? null : `${host} is not ready: ${(await ready.text()).trim()}`,
      leads: /^edgefleet_leader 1$/m.test(metrics),
      reachesHub: /^edgefleet_hub_reachable 1$/m.test(metrics),
    };
  } catch (error) {
    return { problem: `${host} does not answer: ${error.cause?.code ?? error.message}`, leads: false, reachesHub: false };
  }
}
