// Rolling snapshots as Xen Orchestra takes and deletes them: its calls, in its order, through its own client.
//
// The order is that of the public sources of 2025 and 2026: @xen-orchestra/backups (VmsXapi, AbstractXapi) and
// @xen-orchestra/xapi (vm, vdi), with the defaults of xo-server: the whole pool is watched, chains are checked, a disk in
// use is tried again after 5 seconds. Nothing of them is copied.
//
// Environment: XAPI_URL, XAPI_USER, XAPI_PASSWORD; JOB, the id by which the job knows its snapshots; CONCURRENCY, how
// many VMs are served at once; RETENTION, how many snapshots stay; SPEED, by which the server's clock is faster than
// ours: the client's own pauses are as much shorter. The uuids of the VMs are read from the input, one in a line. The
// answer is one line of JSON: the seconds from the time at which the pool was known, and what failed.

import { createClient } from "xen-api";

const { XAPI_URL, XAPI_USER, XAPI_PASSWORD, JOB } = process.env;
const [concurrency, retention, speed] = ["CONCURRENCY", "RETENTION", "SPEED"].map((name) => Number(process.env[name]));

const NOTHING = "OpaqueRef:NULL";
const MARKS = { job: "xo:backup:job", schedule: "xo:backup:schedule", time: "xo:backup:datetime", vm: "xo:backup:vm" };
const REPLICA = "xo:backup:sr";
const UNMERGED_MAX = 1;
const IN_USE = { tries: 10, pauseMs: 5000 / speed };

const xapi = createClient({
  url: XAPI_URL,
  auth: { user: XAPI_USER, password: XAPI_PASSWORD },
  debounce: 200 / speed,
});

/** Carry `work` out for each item, all at once; the first failure is told after all have ended. */
async function forEach(items, work) {
  const ends = await Promise.allSettled([...items].map(work));
  const failed = ends.find((end) => end.status === "rejected");
  if (failed) throw failed.reason;
  return ends.map((end) => end.value);
}

function groups(items, key) {
  const found = {};
  for (const item of items) (found[key(item)] ??= []).push(item);
  return found;
}

const disksOf = async (vm, vbds) => {
  const records = await xapi.getRecords("VBD", vbds ?? (await xapi.getField("VM", vm, "VBDs")));
  return [...new Set(records.filter(({ type, VDI }) => type === "Disk" && VDI !== NOTHING).map(({ VDI }) => VDI))];
};

/** Set marks on a VM, or a snapshot, and on its disks. */
async function mark(vm, marks) {
  const disks = await disksOf(vm);
  await forEach([["VM", vm], ...disks.map((disk) => ["VDI", disk])], ([type, ref]) =>
    xapi.setFieldEntries(type, ref, "other_config", marks),
  );
}

/** The job's snapshots of a VM's disks; their marks are written anew first. */
async function snapshotsOf(vm) {
  const snapshots = await xapi.getField("VM", vm, "snapshots");
  const configs = await forEach(snapshots, (snapshot) => xapi.getField("VM", snapshot, "other_config"));
  const mine = snapshots.filter((_, number) => configs[number][MARKS.job] === JOB);
  await forEach(mine, async (snapshot) => {
    const config = await xapi.getField("VM", snapshot, "other_config");
    await mark(snapshot, Object.fromEntries([...Object.values(MARKS), REPLICA].map((key) => [key, config[key]])));
  });
  const found = [];
  for (const disk of await xapi.getRecords("VDI", await disksOf(vm))) {
    const records = await xapi.getRecords("VDI", disk.snapshots);
    found.push(...records.filter((record) => record.other_config[MARKS.job] === JOB));
  }
  return found;
}

/** Destroy what exceeds the retention. Which snapshot a disk belongs to, the watched objects tell. */
async function expire(disks) {
  await xapi.barrier();
  const watched = disks.map((disk) => xapi.getObjectByRef(disk.$ref));
  await forEach(Object.values(groups(watched, (disk) => disk.other_config[MARKS.schedule])), async (ofSchedule) => {
    const byTime = groups(ofSchedule, (disk) => disk.other_config[MARKS.time]);
    const times = Object.keys(byTime).sort();
    await forEach(times.slice(0, Math.max(0, times.length - retention)), async (time) => {
      const users = byTime[time].flatMap((disk) => disk.$VBDs.map((vbd) => vbd.$VM));
      const [snapshot] = users.filter((vm) => !vm.is_control_domain);
      await (snapshot ? destroy(snapshot.$ref) : forEach(byTime[time], (disk) => destroyDisk(disk.$ref)));
    });
  });
}

/** Destroy a snapshot, then its disks, all at once, unless somebody else uses them. */
async function destroy(snapshot) {
  const record = await xapi.getRecord("VM", snapshot);
  if (record.power_state !== "Halted") await xapi.call("VM.hard_shutdown", snapshot);
  await record.set_is_a_template(false);
  const disks = await disksOf(snapshot, record.VBDs);
  await xapi.call("VM.destroy", snapshot);
  await forEach(disks, async (disk) => {
    for (const vbd of await xapi.getField("VDI", disk, "VBDs")) {
      const user = await xapi.getField("VBD", vbd, "VM");
      if (user !== snapshot && !(await xapi.getField("VM", user, "is_control_domain"))) return;
    }
    await destroyDisk(disk);
  });
}

async function destroyDisk(disk) {
  for (let tries = 1; ; ++tries) {
    try {
      return await xapi.callAsync("VDI.destroy", disk);
    } catch (error) {
      if (error.code === "HANDLE_INVALID") return;
      if (error.code !== "VDI_IN_USE" || tries === IN_USE.tries) throw error;
      await new Promise((resolve) => setTimeout(resolve, IN_USE.pauseMs));
    }
  }
}

/** Fail if images of a VM's disks wait to be merged. Where a disk has a parent, all images of its SR are read. */
async function checkChains(vm) {
  const known = new Map();
  const read = async (ref) => {
    const record = known.get(ref) ?? (await xapi.getRecord("VDI", ref));
    known.set(ref, record).set(record.uuid, record);
    return record;
  };
  const vbds = await xapi.getRecords("VBD", await xapi.getField("VM", vm, "VBDs"));
  for (const disk of vbds.map(({ VDI }) => VDI).filter((ref) => ref !== NOTHING)) {
    let image = await read(disk);
    for (let unmerged = 0; ; ) {
      if (!image.managed) {
        const all = await xapi.getField("SR", image.SR, "VDIs");
        const images = (await Promise.all(all.map((ref) => read(ref).catch(() => undefined)))).filter(Boolean);
        const children = images.filter((other) => other.sm_config["vhd-parent"] === image.uuid);
        unmerged += children.length === 1 && !children[0].managed;
        if (unmerged > UNMERGED_MAX) throw new Error("unhealthy VDI chain");
      }
      const parent = image.sm_config["vhd-parent"];
      if (parent === undefined) break;
      image = known.get(parent) ?? (await read(await xapi.call("VDI.get_by_uuid", parent)));
    }
  }
}

async function take(vm) {
  await checkChains(vm.$ref);
  const record = await xapi.getRecord("VM", vm.$ref);
  await forEach(record.VBDs, async (ref) => {
    const vbd = await xapi.getRecord("VBD", ref);
    // Disks whose name says so are left out; here none does.
    if (vbd.type === "Disk" && vbd.VDI !== NOTHING) await xapi.getField("VDI", vbd.VDI, "name_label");
  });
  const snapshot = await xapi.callAsync("VM.snapshot", vm.$ref, `[XO Backup rolling] ${record.name_label}`);
  await xapi.setField("VM", snapshot, "is_a_template", false);
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  await mark(snapshot, {
    [REPLICA]: null,
    [MARKS.time]: time,
    [MARKS.job]: JOB,
    [MARKS.schedule]: JOB,
    [MARKS.vm]: vm.uuid,
  });
  await xapi.getRecord("VM", snapshot);
}

async function serve(uuid) {
  const vm = await xapi.getRecordByUuid("VM", uuid);
  const reason = "VM migration is blocked during backup";
  await vm.update_blocked_operations({ pool_migrate: reason, migrate_send: reason });
  try {
    await expire(await snapshotsOf(vm.$ref));
    try {
      await take(vm);
    } finally {
      await expire(await snapshotsOf(vm.$ref));
    }
  } finally {
    await vm.update_blocked_operations({ migrate_send: null, pool_migrate: null });
    await xapi.call("VM.update_allowed_operations", vm.$ref);
  }
}

async function input() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  return text.split("\n").filter(Boolean);
}

const waiting = await input();
await xapi.connect();
await xapi.objectsFetched;
const began = performance.now();
const failures = [];
const lane = async () => {
  for (let vm = waiting.shift(); vm !== undefined; vm = waiting.shift()) {
    await serve(vm).catch((error) => failures.push(`${vm}: ${error.code ?? error} ${error.params ?? ""}`));
  }
};
await Promise.all(Array.from({ length: concurrency }, lane));
console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000, failures }));
await xapi.disconnect();
process.exit(0);
