// A story of schedules, snapshots and alerts told by Xen Orchestra's client, through nothing but its public API.
//
// Environment: XAPI_URL, XAPI_USER, XAPI_PASSWORD, and XAPI_TRANSPORT, one of xen-api's transports. What the client
// saw is printed as one line of JSON.

import { createClient } from "xen-api";

const WAIT_MS = 30e3;
const { XAPI_URL, XAPI_USER, XAPI_PASSWORD, XAPI_TRANSPORT } = process.env;

// What xen-api has to complain of about the server, it tells the console and goes on.
const complaints = [];
console.warn = (...words) => complaints.push(words.map(String).join(" "));

const xapi = createClient({
  url: XAPI_URL,
  auth: { user: XAPI_USER, password: XAPI_PASSWORD },
  transport: XAPI_TRANSPORT,
  debounce: 10,
  watchEvents: true,
});

/** The value of a promise that may take WAIT_MS at most. */
async function bounded(what, promise) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}: ${complaints.join("; ")}`)), WAIT_MS);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Wait until `find` finds something among the watched objects, which only events change; return it. */
async function watched(what, find) {
  let look;
  const found = new Promise((resolve) => {
    look = () => {
      const value = find();
      if (value) resolve(value);
    };
  });
  xapi.objects.on("finish", look);
  look();
  try {
    return await bounded(what, found);
  } finally {
    xapi.objects.removeListener("finish", look);
  }
}

const call = (method, ...args) => bounded(method, xapi.call(method, ...args));
const callAsync = (method, ...args) => bounded(method, xapi.callAsync(method, ...args));
const byRef = (ref) => xapi.getObjectByRef(ref, undefined);
const all = (type) => Object.values(xapi.objects.indexes.type[type] ?? {});

/** An object as it is now: its reference, its class, and its fields as the client read them. */
const plain = (object) => ({ ref: object.$ref, class: object.$type, ...object });

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { code: error.code, params: error.params, status: error.task?.status };
  }
  throw new Error("a call that must fail has succeeded");
}

async function story() {
  const saw = {};

  await bounded("the connection", xapi.connect());
  await bounded("the objects", xapi.objectsFetched);
  saw.pool = plain(xapi.pool);
  saw.master = xapi.pool.$master.name_label;
  saw.objects = Object.fromEntries(
    Object.entries(xapi.objects.indexes.type).map(([type, objects]) => [
      type,
      Object.values(objects).map((object) => object.$ref),
    ]),
  );

  const policy = await call("VMSS.create", {
    name_label: "täglich <&>",
    name_description: "made by xen-api",
    type: "snapshot",
    frequency: "daily",
    schedule: { hour: "2", min: "30" },
    retained_snapshots: 3,
    enabled: true,
  });
  saw.policy = plain(await watched("the policy", () => byRef(policy)));

  const vm = all("VM")
    .filter((candidate) => candidate.power_state === "Running" && !candidate.is_control_domain)
    .sort((a, b) => (a.name_label < b.name_label ? -1 : 1))[0];
  await call("VM.set_snapshot_schedule", vm.$ref, policy);
  saw.assigned = plain(
    await watched("the policy's VM", () => byRef(policy).$VMs.includes(byRef(vm.$ref)) && byRef(policy)),
  );
  saw.vm = plain(await watched("the VM's policy", () => byRef(vm.$ref).$snapshot_schedule && byRef(vm.$ref)));

  const snapshot = await callAsync("VM.snapshot", vm.$ref, "by xen-api");
  saw.snapshotResult = snapshot;
  const snapshotObject = await watched("the snapshot", () => byRef(snapshot));
  saw.snapshot = plain(snapshotObject);
  saw.snapshotOf = snapshotObject.$snapshot_of.name_label;
  await watched("the VM's snapshot", () => byRef(vm.$ref).snapshots.includes(snapshot));

  // An ISO in a drive is nobody's copy: only disks go with the snapshot.
  const vbds = await watched("the snapshot's VBDs", () => {
    const found = byRef(snapshot).$VBDs;
    return found.every((vbd) => vbd !== undefined) && found;
  });
  const disks = vbds.filter((vbd) => vbd.type === "Disk").map((vbd) => vbd.VDI);
  saw.disks = await Promise.all(
    disks.map(async (disk) => plain(await watched("the snapshot's disk", () => byRef(disk)))),
  );

  saw.failure = await failure(callAsync("VM.snapshot", "OpaqueRef:nothing", "of nothing"));

  const alert = await call("message.create", "VMSS_SNAPSHOT_FAILED", 1, "VMSS", saw.policy.uuid, "a < b & c\nü");
  saw.alert = plain(await watched("the alert", () => byRef(alert)));
  saw.alertRecord = (await call("message.get_all_records"))[alert];

  await bounded("the new description", xapi.setField("VMSS", policy, "name_description", "changed"));
  saw.changed = plain(await bounded("the barrier", xapi.barrier(policy)));

  await callAsync("VM.destroy", snapshot);
  await Promise.all(disks.map((disk) => callAsync("VDI.destroy", disk)));
  await watched("the end of the snapshot", () => [snapshot, ...disks].every((ref) => byRef(ref) === undefined));
  await watched("the VM without a snapshot", () => byRef(vm.$ref).snapshots.length === 0);
  // The client destroys the tasks it started without waiting for it; the storage's own may go on.
  await watched("the end of the tasks", () => !all("task").some((task) => /^Async\.V/.test(task.name_label)));
  saw.complaints = [...complaints];
  return saw;
}

try {
  const saw = await story();
  console.log(JSON.stringify(saw));
} finally {
  // The client logs out without waiting for it: the process ends when the answer is there.
  await xapi.disconnect();
}
